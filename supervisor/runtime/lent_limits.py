"""Give a worker limits of its own without a helper: the daemon takes them on for the instant of the spawn.

Decides which limits the daemon may have for a fifth of a millisecond: of descriptors, for which `nofile`
holds some in reserve, and of core files. Any other would hurt it, or its threads: memory, the size of files,
processor time. A hard limit that was lowered comes back only to who may raise it, so that is tried before,
with another one.
"""

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

from supervisor.runtime.nofile import LimitRefusedError, may_take_on, take_on

__all__ = ["LimitRefusedError", "lent", "may_lend"]


def may_lend(limits: Mapping[str, tuple[int, int]]) -> bool:
    """Whether the daemon may take on all these limits, by their name in `resource` without prefix."""
    return all(_may_lend(name, *limit) for name, limit in limits.items())


def _may_lend(name: str, soft: int, hard: int) -> bool:
    if name not in {"CORE", "NOFILE"} or (name == "NOFILE" and not may_take_on(soft)):
        return False
    return hard == resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] or _may_raise()


@cache
def _may_raise() -> bool:
    """Whether this process may raise a hard limit: CAP_SYS_RESOURCE, in the first user namespace."""
    # Neither is looked at by anything in a daemon, and both have a number by default.
    for number in (resource.RLIMIT_MSGQUEUE, resource.RLIMIT_SIGPENDING):
        soft, hard = resource.getrlimit(number)
        if hard == resource.RLIM_INFINITY:
            continue
        try:
            resource.setrlimit(number, (soft, hard + 1))
        except (OSError, ValueError):
            return False
        resource.setrlimit(number, (soft, hard))
        return True
    return False


@contextmanager
def lent(limits: Mapping[str, tuple[int, int]]) -> Iterator[None]:
    """The body runs under the limit of core files among these, if there is one. Raises LimitRefusedError."""
    wanted = limits.get("CORE")
    if wanted is None:
        yield
        return
    former = resource.getrlimit(resource.RLIMIT_CORE)
    take_on(resource.RLIMIT_CORE, wanted)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, former)
