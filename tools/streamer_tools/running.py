"""Runs a command's coroutine, so that Ctrl-C ends it wherever it comes.

By default trio lets Ctrl-C raise in whatever code runs at that moment: inside a library that takes
every exception of a message for a broken message, or in a destructor, it is lost, and the program
goes on. So it is raised at the next checkpoint of the main task, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Callable[..., Awaitable[T]], *args: Any) -> T:
    """What `main(*args)` gives.

    Raises:
        KeyboardInterrupt: Ctrl-C, maybe within a group.
        Whatever `main` raises.
    """
    import trio

    return trio.run(main, *args, restrict_keyboard_interrupt_to_checkpoints=True)
