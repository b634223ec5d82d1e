"""Let the daemon hold many descriptors without letting its workers know.

A daemon with a thousand instances needs more than the usual 1024 descriptors, but a program that uses
`select` breaks when its own soft limit is raised behind its back. So the daemon raises its limit,
and every spawn happens under the limit it was started with. What is spawned is not known here.

A spawn copies the limit as it is at that moment, and a process may keep descriptors above its limit but
open no new ones there. A few low descriptors are therefore held in reserve and given up for the
instant of the spawn, for what another thread opens in it.
"""

import fcntl
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

WANTED_DESCRIPTORS = 1 << 18
"""Enough for 80 000 instances at three each; a hard limit may be a billion, and kernel tables follow it."""

RESERVED = 4
"""One for a copy of the worker's output; the journal's thread may open a file and its directory meanwhile."""

PER_INSTANCE = 4
"""A handle of the process, the pipe of its output, its notify socket, and now and then its log file."""

LEAST = 256
"""Of a worker's own limit the daemon takes on no smaller one: what it holds in reserve lies far below."""

FIXED = 64
"""What a daemon holds without any instance: its loop, journal, listeners, the reserve and a few clients."""


class _Limit:
    """The limit the daemon was started with, and the low descriptors held for spawning under it."""

    def __init__(self) -> None:
        self.original: int | None = None
        self.raised: int | None = None
        self.reserve: list[int] = []

    def give_up_reserve(self) -> None:
        while self.reserve:
            os.close(self.reserve.pop())

    def hold_reserve(self) -> None:
        """Called under the original limit, so that whatever can be opened is below it."""
        with suppress(OSError):
            while len(self.reserve) < RESERVED:
                self.reserve.append(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))


_limit = _Limit()
_low = threading.Lock()


def raise_nofile(original: int | None = None) -> None:
    """Raise the soft limit of descriptors towards the hard one, at most to `WANTED_DESCRIPTORS`.

    Call it once, early. `original` is the soft limit that workers shall see: the present one if None;
    a daemon that replaced itself by exec hands over what `original_nofile` said before.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    original = soft if original is None else original
    raised = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, WANTED_DESCRIPTORS)
    # Where it is high enough the reserve is held all the same: a worker may be given less.
    _limit.original, _limit.raised = original, max(original, raised)
    resource.setrlimit(resource.RLIMIT_NOFILE, (original, hard))
    _limit.hold_reserve()
    resource.setrlimit(resource.RLIMIT_NOFILE, (_limit.raised, hard))


def shortage(instances: int) -> str | None:
    """Why so many instances cannot be held under the present limit of descriptors; None if they can."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    needed = FIXED + PER_INSTANCE * instances
    if limit == resource.RLIM_INFINITY or needed <= limit:
        return None
    return (
        f"cannot hold {instances} instances: they take up to {needed} descriptors, and the hard limit is"
        f" {limit}; raise it (ulimit -Hn, or LimitNOFILE= of the unit), or run fewer"
    )


def original_nofile() -> int:
    """The soft limit of descriptors that workers see."""
    return _limit.original if _limit.original is not None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def may_take_on(soft: int) -> bool:
    """Whether `workers_limit` may be asked for this soft limit."""
    return _limit.original is not None and (soft == resource.RLIM_INFINITY or soft >= LEAST)


@contextmanager
def workers_limit(descriptor: int | None, own: int | None = None) -> Iterator[int | None]:
    """The body runs under the limit that the daemon was started with, with a few low descriptors free.

    Or under `own`, where a worker has a soft limit of its own that `may_take_on`. Gives the descriptor, or a
    copy of it that lies below that limit: posix_spawn(3) takes no other.
    """
    original, raised = _limit.original, _limit.raised
    if original is None or raised is None or (own is None and original == raised):
        yield descriptor
        return
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = original if own is None else own
    with _low:
        _limit.give_up_reserve()
        low = descriptor
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            if descriptor is not None and 0 <= soft <= descriptor:
                low = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 0)
            yield low
        finally:
            if low is not None and low != descriptor:
                os.close(low)
            resource.setrlimit(resource.RLIMIT_NOFILE, (original, hard))
            _limit.hold_reserve()
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))


def open_high(path: str, flags: int) -> int:
    """Open a file on another thread: in the instant of a spawn it would take a descriptor of the reserve.

    Raises OSError.
    """
    with _low:
        descriptor = os.open(path, flags)
        if _limit.original is None or _limit.original == _limit.raised:
            return descriptor
        try:
            return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _limit.original)
        finally:
            os.close(descriptor)


def workers_limits() -> dict[str, tuple[int, int]]:
    """The limit of descriptors that a worker is to have, for who applies limits itself; else empty."""
    if _limit.original is None:
        return {}
    return {"NOFILE": (_limit.original, resource.getrlimit(resource.RLIMIT_NOFILE)[1])}
