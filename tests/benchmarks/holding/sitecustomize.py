"""Watches the loop of a daemon from inside: python imports a module of this name before any program.

Writes a line for every callback and every turn of the loop, and every collection of garbage, that took
long, to the file that `PITBOSS_HOLDING` names: when it ended, how long it took by the clock and of the
processor (seconds), which of these, and its name. Does nothing in a program that is not yet the daemon.
Knows nothing of what the daemon does.
"""

import asyncio
import gc
import os
import selectors
import sys
import time
from typing import Any

WORTH_SECONDS = 0.0005
"""Shorter ones are not written down."""

_clock, _used = time.monotonic, time.thread_time


def _name(callback: Any) -> str:
    """Of a task, that of its coroutine."""
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        callback = task.get_coro()
    named = getattr(callback, "func", callback)
    return str(getattr(named, "__qualname__", type(named).__name__))


def _watch(path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    run, select = asyncio.Handle._run, selectors.EpollSelector.select
    turn: list[float] = []
    longest: list[Any] = [0.0, "nothing"]
    collection: list[float] = []

    def note(kind: str, name: str, clock: float, used: float) -> None:
        if used > WORTH_SECONDS or clock > WORTH_SECONDS:
            os.write(file, f"{_clock():.6f} {clock:.6f} {used:.6f} {kind} {name}\n".encode())

    def watched_run(handle: Any) -> None:
        name = _name(handle._callback)
        began, before = _clock(), _used()
        run(handle)
        clock, used = _clock() - began, _used() - before
        if used > longest[0]:
            longest[:] = used, name
        note("callback", name, clock, used)

    def watched_select(selector: selectors.EpollSelector, timeout: float | None = None) -> Any:
        if turn:
            name = f"of which {longest[1]} {longest[0] * 1e3:.2f}"
            note("turn", name, _clock() - turn[0], _used() - turn[1])
        longest[:] = 0.0, "nothing"
        found = select(selector, timeout)
        turn[:] = _clock(), _used()
        return found

    def collected(phase: str, about: dict[str, int]) -> None:
        if phase == "start":
            collection[:] = _clock(), _used()
        else:
            note("collection", str(about["generation"]), _clock() - collection[0], _used() - collection[1])

    gc.callbacks.append(collected)
    setattr(asyncio.Handle, "_run", watched_run)  # noqa: B010 - mypy refuses the plain way
    setattr(selectors.EpollSelector, "select", watched_select)  # noqa: B010


# The daemon is a program that was executed anew, with this option; see docs/decisions/0021.
if "pitbossd" in sys._xoptions and "PITBOSS_HOLDING" in os.environ:
    _watch(os.environ["PITBOSS_HOLDING"])
