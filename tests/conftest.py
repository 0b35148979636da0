"""For all tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Have Ctrl-C reach the programs that tests start.

    A shell without job control starts what is to run behind it (`make test &`) with SIGINT ignored,
    and programs inherit that: those that a test interrupts would go on for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
