"""Hear of the ends of processes: all their handles in an epoll or two, which are readers of the loop.

Decides how many are heard of in a turn of the loop: a thousand that end at once keep nobody waiting; and
that those who are put last are heard of after all others. What an end means is not known here.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Any

SLICE_SECONDS = 0.0003
"""How long ends are told in one turn. What was begun is finished: a replacement takes a millisecond."""


class Ends:
    """The pidfds that are watched, each with who is told. Make it in the running loop.

    `waits` says that there is something more urgent now: then the next turn tells.
    """

    def __init__(self, waits: Callable[[], bool] = lambda: False) -> None:
        self._waits = waits
        self._loop = asyncio.get_running_loop()
        self._told: dict[int, tuple[Callable[[Any], None], Any]] = {}
        self._first, self._last = (select.epoll(flags=select.EPOLL_CLOEXEC) for _ in range(2))
        self._in_last: set[int] = set()
        for epoll in (self._first, self._last):
            self._loop.add_reader(epoll.fileno(), self._turn)

    def watch(self, pidfd: int, told: Callable[[Any], None], about: Any) -> None:
        """Call `told` with `about` when the process has ended, and again in each turn until `forget`."""
        if pidfd not in self._told:
            self._first.register(pidfd, select.EPOLLIN)
        self._told[pidfd] = (told, about)

    def put_last(self, *pidfds: int) -> None:
        """From now on these ends are told after those of others, and nobody waits for them."""
        for pidfd in pidfds:
            if pidfd in self._told and pidfd not in self._in_last:
                self._first.unregister(pidfd)
                self._last.register(pidfd, select.EPOLLIN)
                self._in_last.add(pidfd)

    def forget(self, pidfd: int) -> None:
        """Tell nobody any more; for a descriptor that is still open, or was never watched."""
        if self._told.pop(pidfd, None) is not None:
            (self._last if pidfd in self._in_last else self._first).unregister(pidfd)
            self._in_last.discard(pidfd)

    def is_behind(self) -> bool:
        """Whether somebody has ended of whom nobody was told yet, and who was not put last."""
        return bool(self._first.poll(0, 1))

    def close(self) -> None:
        """Tell nobody of anything any more."""
        for epoll in (self._first, self._last):
            self._loop.remove_reader(epoll.fileno())
            epoll.close()
        self._told.clear()
        self._in_last.clear()

    def _turn(self) -> None:
        if self._waits():
            return
        until = self._loop.time() + SLICE_SECONDS
        # One at a time: what is told may close others, and give their numbers to new ones.
        while ended := self._first.poll(0, 1) or self._last.poll(0, 1):
            told, about = self._told[ended[0][0]]
            told(about)
            if self._loop.time() > until:
                return
