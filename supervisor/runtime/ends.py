"""Hear of the ends of processes: all their handles in one epoll, which is one reader of the loop.

Decides how many are heard of in a turn of the loop: a thousand that end at once keep nobody waiting. What
an end means is not known here.
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
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._loop.add_reader(self._epoll.fileno(), self._turn)

    def watch(self, pidfd: int, told: Callable[[Any], None], about: Any) -> None:
        """Call `told` with `about` when the process has ended, and again in each turn until `forget`."""
        if pidfd not in self._told:
            self._epoll.register(pidfd, select.EPOLLIN)
        self._told[pidfd] = (told, about)

    def forget(self, pidfd: int) -> None:
        """Tell nobody any more; for a descriptor that is still open, or was never watched."""
        if self._told.pop(pidfd, None) is not None:
            self._epoll.unregister(pidfd)

    def is_behind(self, counts: Callable[[Any], bool] = lambda _about: True) -> bool:
        """Whether somebody has ended who counts, and of whom nobody was told yet."""
        return any(counts(self._told[pidfd][1]) for pidfd, _ in self._epoll.poll(0))

    def close(self) -> None:
        """Tell nobody of anything any more."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._told.clear()

    def _turn(self) -> None:
        if self._waits():
            return
        until = self._loop.time() + SLICE_SECONDS
        # One at a time: what is told may close others, and give their numbers to new ones.
        while ended := self._epoll.poll(0, 1):
            told, about = self._told[ended[0][0]]
            told(about)
            if self._loop.time() > until:
                return
