"""The program around the screen: asks the daemon, reads keys, draws.

Rules:

- One request is under way at a time: the overview, then the news, then what is opened. A daemon
  that is slow to answer is asked less often.
- One task draws, when something has changed, and sends what differs from what stands there.
- A daemon that goes away is waited for, for as long as the person likes; the last numbers stay,
  and are marked as old.
- The terminal is taken once the daemon has answered, so a wrong address is a plain sentence.
"""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

import attrs
import trio
from rich.color import ColorSystem
from rich.console import Console
from rich.text import Text

from streamer_tools.asking import asked
from streamer_tools.exits import Exit, Told
from streamer_tools.top.details import VERBS
from streamer_tools.top.grid import ASCII, Grid, changes, grid_of
from streamer_tools.top.keys import ESCAPE_S, Keys
from streamer_tools.top.scene import EVENTS_MAX, Answer, Id, Link, Rates, Scene, at, maps
from streamer_tools.top.screen import draw
from streamer_tools.top.state import Shown, State, pressed
from streamer_tools.top.terminal import Terminal, taken

if TYPE_CHECKING:
    from streamer.client import Client

#: An answer that takes longer than that, and than two intervals, is late.
_LATE_S = 3.0
#: Between two looks at whether the daemon is still there.
_WATCH_S = 0.5
#: In one request; and requests for the news of one look.
_EVENTS, _EVENT_PAGES = 200, 5
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_SIGNALS = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT, *_ENDING)


async def run(url: str, state: State) -> int:
    """Show the daemon at `url` until the person has had enough; the exit status.

    Raises:
        ConnectionFailed: no daemon answers at `url`.
        Told: it cannot give what is shown here.
    """
    from streamer.client import connect

    async with connect(url, name="streamer top", reconnect_s=math.inf) as client:
        looking = Looking(client, url)
        scene = await looking.look(Scene(url), state)
        # Around the terminal, so that no signal ends us while it is ours.
        with trio.open_signal_receiver(*_SIGNALS) as signals, taken() as terminal:
            return await Top(terminal, looking, scene, state).run(signals)


class Looking:
    """Asks the daemon. Keeps what the next look needs to know of the last."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._url = url
        self._rates = Rates()
        self._after = 0
        self._pid: object = None
        self._tells_events = True

    @property
    def connected(self) -> bool:
        return self._client.connected

    async def look(self, scene: Scene, state: State) -> Scene:
        """The scene as it is now. Cancelled, nothing of it is lost but this look.

        Raises:
            Told: the daemon does not know `overview`.
        """
        document = await self._ask("overview", {})
        if not isinstance(document, Mapping):
            document = {}
        scene = attrs.evolve(scene, document=document, link="fresh", stale_s=0.0)
        if at(document, "pid") != self._pid:
            # Another process: its events have their own numbers.
            self._pid, self._after = at(document, "pid"), 0
            scene = attrs.evolve(scene, events=(), missed=0)
        scene = attrs.evolve(scene, rates=self._rates.look(scene))
        scene = await self._news(scene)
        return attrs.evolve(scene, answer=await self._answer(state))

    async def _ask(self, verb: str, arguments: dict[str, object]) -> object:
        return await asked(self._client, self._url, verb, arguments)

    async def _news(self, scene: Scene) -> Scene:
        for _ in range(_EVENT_PAGES if self._tells_events else 0):
            try:
                told = await self._ask("events", {"after": self._after, "limit": _EVENTS})
            except Told:
                self._tells_events = False
                break
            found = maps(at(told, "events"))
            following = at(told, "next")
            self._after = following if isinstance(following, int) else 0
            missed = at(told, "missed")
            scene = attrs.evolve(
                scene,
                events=(*reversed(found), *scene.events)[:EVENTS_MAX],
                missed=scene.missed + (missed if isinstance(missed, int) else 0),
            )
            if len(found) < _EVENTS:
                break
        return scene

    async def _answer(self, state: State) -> Answer | None:
        """What the verb for what is opened tells; None where there is none."""
        from streamer.errors import StreamerError

        if state.opened is None or state.view not in VERBS:
            return None
        verb, names = VERBS[state.view]
        of: tuple[str, Id] = (state.view, state.opened)
        try:
            document = await self._ask(verb, dict(zip(names, state.opened, strict=True)))
        except Told as told:
            return Answer(of, fault="; ".join(told.lines))
        except StreamerError as error:
            return Answer(of, fault=error.message)
        return Answer(of, document if isinstance(document, Mapping) else {})


class Top:
    """One person in front of one terminal."""

    def __init__(self, terminal: Terminal, looking: Looking, scene: Scene, state: State) -> None:
        self._terminal = terminal
        self._looking = looking
        self._scene = scene
        self._state = state
        self._shown = Shown()
        self._console, self._colors = console_of_terminal()
        self._on_screen: Grid | None = None
        self._changed = trio.Event()
        self._hurry = trio.Event()
        self._answered_at = trio.current_time()
        self._asked_at: float | None = None
        self._status = Exit.OK
        self._scope = trio.CancelScope()

    async def run(self, signals: AsyncIterator[int]) -> int:
        """Until q, a signal, or the end of the terminal; the exit status."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._heed, signals)
                nursery.start_soon(self._ask)
                nursery.start_soon(self._watch)
                nursery.start_soon(self._read)
                await self._paint()
        return self._status

    def _end(self, status: Exit) -> None:
        self._status = status
        self._scope.cancel()

    def _change(self) -> None:
        self._changed.set()

    # ------------------------------------------------------------------------------ the daemon

    async def _ask(self) -> None:
        from streamer.errors import StreamerError

        # The first look was before the terminal was taken.
        began_at = trio.current_time()
        while True:
            await self._pause(began_at)
            began_at = self._asked_at = trio.current_time()
            try:
                self._scene = await self._looking.look(self._scene, self._state)
                self._answered_at = trio.current_time()
            except StreamerError as error:
                # Of a daemon that goes down or has too much to do: it may think better of it.
                self._scene = attrs.evolve(self._scene, link="refused", fault=error.message)
            self._asked_at = None
            self._change()

    async def _pause(self, began_at: float) -> None:
        """Until the next look is due, or somebody is in a hurry."""
        while True:
            self._hurry = trio.Event()
            due = math.inf if self._state.paused else began_at + self._state.interval_s
            with trio.move_on_at(due):
                await self._hurry.wait()
                if self._state.paused and self._state.opened is None:
                    continue
            return

    async def _watch(self) -> None:
        """Keep the scene's `link` true while no answer comes."""
        while True:
            await trio.sleep(_WATCH_S)
            now = trio.current_time()
            late = max(_LATE_S, 2 * self._state.interval_s)
            waited = 0.0 if self._asked_at is None else now - self._asked_at
            link: Link = "refused" if self._scene.link == "refused" else "fresh"
            if not self._looking.connected:
                link = "gone"
            elif waited > late:
                link = "silent"
            stale_s = 0.0 if link == "fresh" else float(int(now - self._answered_at))
            if (link, stale_s) != (self._scene.link, self._scene.stale_s):
                self._scene = attrs.evolve(self._scene, link=link, stale_s=stale_s)
                self._change()

    # ---------------------------------------------------------------------------- the terminal

    async def _read(self) -> None:
        keys = Keys()
        while True:
            data = b""
            with trio.move_on_after(ESCAPE_S if keys.open else math.inf) as waited:
                data = await self._terminal.read()
            if waited.cancelled_caught:
                names = keys.flush()
            elif data:
                names = keys.feed(data)
            else:
                self._end(Exit.INTERRUPTED)
                return
            for name in names:
                self._press(name)

    def _press(self, key: str) -> None:
        if key == "ctrl-l":
            self._on_screen = None
        before, self._state = self._state, pressed(self._state, key, self._shown)
        after = self._state
        if after.done:
            self._end(Exit.OK)
        opened = after.opened is not None and (before.opened, before.view) != (
            after.opened,
            after.view,
        )
        if opened or (before.paused, before.interval_s) != (after.paused, after.interval_s):
            self._hurry.set()
        # Keys that come together are pressed on what they change.
        self._shown = self._draw()[1]
        self._change()

    async def _heed(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number in _ENDING:
                self._end(Exit.INTERRUPTED)
                return
            if number == signal.SIGTSTP:
                self._terminal.suspend()
            elif number == signal.SIGCONT:
                # Stopped by SIGSTOP, it had no time to give the terminal back.
                self._terminal.enter()
            self._on_screen = None
            self._change()

    def _draw(self) -> tuple[list[Text], Shown]:
        return draw(self._scene, self._state, *self._terminal.size())

    async def _paint(self) -> None:
        while True:
            self._changed = trio.Event()
            lines, self._shown = self._draw()
            grid = grid_of(lines, self._terminal.size()[0], self._console)
            text = changes(self._on_screen, grid, self._colors)
            self._on_screen = grid
            if text:
                try:
                    await self._terminal.write(encoded(text))
                except OSError:
                    # The line was hung up.
                    self._end(Exit.INTERRUPTED)
                    return
            await self._changed.wait()


def console_of_terminal() -> tuple[Console, ColorSystem | None]:
    """What renders styles for this terminal, and the colours that it has; none with NO_COLOR."""
    console = Console(force_terminal=True)
    name = console.color_system
    known = {"standard": ColorSystem.STANDARD, "256": ColorSystem.EIGHT_BIT,
             "truecolor": ColorSystem.TRUECOLOR}  # fmt: skip
    # Without a colour system rich leaves out bold and reverse too, which need no colours.
    return console, known.get(name or "", ColorSystem.STANDARD)


def encoded(text: str) -> bytes:
    """As bytes for standard output; where that is not UTF-8, what it cannot say is replaced."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if encoding.lower().replace("-", "") == "utf8":
        return text.encode(errors="replace")
    return text.translate(ASCII).encode(encoding, errors="replace")
