"""Which requests are our own page's, and which are somebody else's by way of a visitor's browser.

Rules:

- A page of another site can make a browser send requests here. It cannot read the answers, unless
  its own name leads to our address (DNS rebinding): so the Host must be one that cannot be theirs.
  An address in digits cannot, since no name was looked up; neither can `localhost`, nor the name
  that the config says we listen on, nor one in `daemon.origins`.
- What changes something must say that it comes from a page of this very host, by the Origin that
  browsers send and scripts cannot set, and has a header that no form and no other site's script
  can send without asking first, which is never answered.
- Programs have the protocol for changes: they are not let in here by leaving headers out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from streamer.errors import NotAllowed

#: Our page sends it with the value "1".
OWN_HEADER = "x-streamer-console"


def check_host(
    headers: Mapping[str, str], names: Collection[str], origins: Collection[str]
) -> None:
    """Make sure that the Host is one of ours; `names` are those that the config listens on.

    Raises:
        NotAllowed: it may be anybody's; the text says how to allow it.
    """
    given = headers.get("host", "")
    host = _host_name(f"//{given}")
    known = {"localhost", *names, *(_host_name(origin) for origin in origins)} - {""}
    if host not in known and not _is_ip(host):
        raise NotAllowed(
            f"the request is for the host {given[:80]!r}, allowed are addresses in digits, "
            "localhost, and the hosts of [daemon] origins in the config"
        )


def check_own_page(headers: Mapping[str, str], origins: Collection[str]) -> None:
    """Make sure that a request to change something comes from the console itself.

    Raises:
        NotAllowed: it does not say so.
    """
    site = headers.get("sec-fetch-site", "same-origin")
    origin = headers.get("origin", "").lower()
    host = headers.get("host", "").lower()
    # Behind a proxy the browser knows us by another name, which the config then has.
    known = {f"http://{host}", f"https://{host}", *(each.lower() for each in origins)}
    if site != "same-origin" or origin not in known:
        raise NotAllowed(
            f"the request comes from {origin[:80] or 'no page'!r} ({site[:20]}), allowed is the "
            "console of this daemon"
        )
    if headers.get(OWN_HEADER) != "1":
        raise NotAllowed(f"the header {OWN_HEADER} is missing, allowed is 1")


def _host_name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
