"""The tree of errors: what travels over the wire comes back as the same class."""

from __future__ import annotations

import pytest

from streamer import errors
from streamer.errors import ProtocolError, Refused, StreamerError, from_code


def _all(cls: type[StreamerError] = StreamerError) -> list[type[StreamerError]]:
    return [cls, *(leaf for sub in cls.__subclasses__() for leaf in _all(sub))]


#: A test of another module may have made classes of its own.
CLASSES = [cls for cls in _all() if cls.__module__ == errors.__name__]


def test_codes_are_plain_and_name_one_class_each() -> None:
    owners: dict[str, type[StreamerError]] = {}
    for cls in CLASSES:
        assert cls.code.replace("_", "").isalpha()
        assert cls.code.islower()
        # Only a class that says nothing new shares its parent's code.
        owner = owners.setdefault(cls.code, cls)
        assert owner is cls or issubclass(cls, owner), cls


#: Those that may travel: a wrong configuration never meets a peer.
TRAVELLERS = [cls for cls in CLASSES if cls is not errors.ConfigError]


@pytest.mark.parametrize("cls", TRAVELLERS, ids=lambda cls: cls.__name__)
def test_a_code_comes_back_as_its_class(cls: type[StreamerError]) -> None:
    error = from_code(cls.code, "what happened", {"next": 3})
    assert issubclass(cls, type(error))
    assert type(error).code == cls.code
    assert (error.message, str(error), error.detail) == (
        "what happened",
        "what happened",
        {"next": 3},
    )
    assert (error.retryable, error.fatal) == (cls.retryable, cls.fatal)


def test_an_unknown_code_is_a_plain_error() -> None:
    error = from_code("from_the_future", "text")
    assert isinstance(error, StreamerError)
    assert (error.message, error.detail, error.fatal) == ("text", {}, False)


def test_what_ends_a_session_is_a_protocol_error() -> None:
    for cls in CLASSES:
        assert cls.fatal is issubclass(cls, ProtocolError), cls
        if issubclass(cls, Refused):
            assert not cls.fatal


def test_every_class_says_what_it_means() -> None:
    for cls in CLASSES:
        if cls.__doc__ is None:
            # A name that says it all, on a code of its own.
            assert "code" in vars(cls), cls


def test_detail_goes_with_the_text() -> None:
    error = errors.OffsetConflict("expected 3", next_offset=5)
    assert (str(error), error.detail) == ("expected 3", {"next_offset": 5})


def test_a_config_error_has_a_line_a_fault() -> None:
    error = errors.ConfigError(["a: wrong", "b: wrong too"])
    assert error.faults == ["a: wrong", "b: wrong too"]
    assert str(error) == "a: wrong; b: wrong too"
