"""A mark on a process that every descendant carries, whatever it does to its environment, session or user.

The kernel keeps a limit that it has not looked at since Linux 2.4.25: RLIMIT_LOCKS (getrlimit(2)). It is
inherited over fork, exec and setuid like the others, and anybody may read it in /proc/PID/limits. A
soft limit of some 2**62 locks is therefore a number that goes with a tree of processes and changes
nothing for them. A process can shed it on purpose, so it is one evidence among others; who draws
which conclusion from it is the business of `containment`.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

from supervisor.runtime.sight import read

RLIMIT_LOCKS = 10
"""From asm-generic/resource.h; the `resource` module has no name for it."""

_LINE = b"Max file locks"
_SERIAL_BITS = 32
_FAMILY_BITS = 29
_BASE = 1 << (_SERIAL_BITS + _FAMILY_BITS)
"""Tags lie between 2**61 and 2**62: far above any limit that somebody meant."""


def new_family() -> int:
    """A random number that tells the tags of one daemon from those of another."""
    return int.from_bytes(os.urandom(4)) & ((1 << _FAMILY_BITS) - 1)


def make_tag(family: int, serial: int) -> int:
    """The tag of the `serial`-th tree of a daemon."""
    return _BASE | family << _SERIAL_BITS | serial & ((1 << _SERIAL_BITS) - 1)


def family_of(tag: int) -> int | None:
    """Which daemon's tag it is; None for a number that is no tag."""
    return (tag ^ _BASE) >> _SERIAL_BITS if _BASE <= tag < _BASE << 1 else None


def limit_of(tag: int | None) -> tuple[int, int] | None:
    """RLIMIT_LOCKS of who is to carry the tag; None where there is none or a hard limit forbids it."""
    hard = resource.getrlimit(RLIMIT_LOCKS)[1]
    return None if tag is None or hard != resource.RLIM_INFINITY else (tag, hard)


@contextmanager
def tagged(tag: int | None) -> Iterator[None]:
    """What is forked in the body carries the tag; nothing, where there is none or a hard limit forbids it."""
    limit = limit_of(tag)
    if limit is None:
        yield
        return
    former = resource.getrlimit(RLIMIT_LOCKS)
    resource.setrlimit(RLIMIT_LOCKS, limit)
    try:
        yield
    finally:
        resource.setrlimit(RLIMIT_LOCKS, former)


def read_tag(pid: int) -> int | None:
    """The tag that a process (or a zombie) carries; None if it has none or is gone."""
    try:
        text = read(f"/proc/{pid}/limits")
    except OSError:
        return None
    start = text.find(_LINE)
    words = text[start + len(_LINE) :].split(None, 1) if start >= 0 else []
    return int(words[0]) if words and words[0].isdigit() else None
