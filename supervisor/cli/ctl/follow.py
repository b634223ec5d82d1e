"""Waiting for something: read the feed, keep the latest picture, move the display, notice the end.

Decides when a wait is over and why; what is waited for, and what it looks like, come from outside.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NoReturn, Protocol

from supervisor.cli.ctl.feed import Feed, HostNews, LostNews, OperationNews, RefusedNews
from supervisor.cli.ctl.screen import Screen
from supervisor.cli.ctl.text import Line
from supervisor.cli.ctl.view import HostView, OperationView
from supervisor.client.errors import ClientError

FRAME_SECONDS = 0.2
"""Five frames a second: enough for a countdown, little for a slow line."""
LOST_SECONDS = 20.0
"""How long a daemon may be away before waiting for it is given up; a new start takes a second or two."""


class Ending(Enum):
    """Why a wait is over."""

    REACHED = "reached"
    TIMEOUT = "timeout"
    LOST = "lost"


@dataclass(slots=True)
class Picture:
    """The latest that is known. Moments are monotonic seconds of this process."""

    began_at: float
    host: HostView | None = None
    host_at: float = 0.0
    operations: dict[str, OperationView] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    lost: ClientError | None = None
    lost_at: float = 0.0

    @property
    def elapsed(self) -> float:
        """How old the picture of the host is."""
        return time.monotonic() - self.host_at if self.host is not None else 0.0

    @property
    def waited(self) -> float:
        """How long the wait has lasted."""
        return time.monotonic() - self.began_at


class Display(Protocol):
    """Shows a picture; called after every news, and on a terminal between them."""

    def show(self, picture: Picture) -> None:
        """Show what has changed."""


class Silence:
    """The display of `--json`."""

    def show(self, picture: Picture) -> None:
        """Show nothing."""


class Frames:
    """The display of a terminal: the whole picture again and again, at one place."""

    def __init__(self, draw: Callable[[Picture], list[Line]], show: Callable[[list[Line]], None]) -> None:
        self._draw = draw
        self._show = show

    def show(self, picture: Picture) -> None:
        """Draw the picture."""
        self._show(self._draw(picture))


class Told:
    """The display of a pipe: a line for each change, and none between."""

    def __init__(self, changes: Callable[[Picture], list[Line]], screen: Screen) -> None:
        self._changes = changes
        self._screen = screen

    def show(self, picture: Picture) -> None:
        """Print what has changed."""
        self._screen.say(self._changes(picture))


def follow(
    feed: Feed,
    picture: Picture,
    display: Display,
    *,
    reached: Callable[[Picture], bool],
    timeout_seconds: float | None,
    moving: bool,
    lost_seconds: float = LOST_SECONDS,
) -> Ending:
    """Wait until `reached`, the time-out, or the loss of the daemon; KeyboardInterrupt goes through.

    Raises the `ClientError` with which the daemon refused to tell.
    """
    until = None if timeout_seconds is None else picture.began_at + timeout_seconds
    feed.start()
    try:
        while True:
            if reached(picture):
                return Ending.REACHED
            now = time.monotonic()
            if until is not None and now >= until:
                return Ending.TIMEOUT
            if picture.lost is not None and now - picture.lost_at >= lost_seconds:
                return Ending.LOST
            _take(feed, picture, _patience(picture, until, lost_seconds, now, moving=moving))
            display.show(picture)
    finally:
        feed.stop()


def _patience(
    picture: Picture, until: float | None, lost_seconds: float, now: float, *, moving: bool
) -> float | None:
    bounds = [until]
    if moving:
        bounds.append(now + FRAME_SECONDS)
    if picture.lost is not None:
        bounds.append(picture.lost_at + lost_seconds)
    return min((max(0.0, bound - now) for bound in bounds if bound is not None), default=None)


def _take(feed: Feed, picture: Picture, seconds: float | None) -> None:
    news = feed.next(seconds)
    match news:
        case HostNews():
            # Two threads ask: the older answer may come second. A new daemon counts from the start again.
            if (
                picture.host is None
                or picture.lost is not None
                or news.host.revision >= picture.host.revision
            ):
                picture.host, picture.host_at = news.host, time.monotonic()
            picture.lost = None
        case OperationNews():
            picture.operations[news.operation.id] = news.operation
            picture.answers[news.operation.id] = news.answer
            picture.lost = None
        case LostNews():
            picture.lost_at = picture.lost_at if picture.lost is not None else time.monotonic()
            picture.lost = news.error
        case RefusedNews():
            raise news.error


@contextmanager
def shown(
    screen: Screen, draw: Callable[[Picture], list[Line]], *, alternate: bool = False
) -> Iterator[Display]:
    """A moving display, taken away at the end; also at SIGTERM, which would leave the cursor hidden."""

    def end(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with screen.moving(alternate=alternate) as moving:
            yield Frames(draw, moving.show)
    finally:
        signal.signal(signal.SIGTERM, before)
