"""Give a worker limits of its own without a helper: the daemon takes them on for the instant of the spawn.

Decides which limits the daemon may have for a fifth of a millisecond: a soft one of descriptors, for which
`nofile` holds some in reserve, and one of core files. Any other would hurt it, or its threads: memory, the
size of files, processor time. Hard limits stay as they are: not everybody gets back what was lowered. See
docs/decisions/0029-lent-limits.md.
"""

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from supervisor.runtime.nofile import may_take_on


def may_lend(limits: Mapping[str, tuple[int, int]]) -> bool:
    """Whether the daemon may take on all these limits, by their name in `resource` without prefix."""
    return all(_may_lend(name, *limit) for name, limit in limits.items())


def _may_lend(name: str, soft: int, hard: int) -> bool:
    if name not in {"CORE", "NOFILE"} or (name == "NOFILE" and not may_take_on(soft)):
        return False
    allowed = hard in {soft, resource.RLIM_INFINITY} or resource.RLIM_INFINITY != soft <= hard
    return allowed and hard == resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]


@contextmanager
def lent(limits: Mapping[str, tuple[int, int]]) -> Iterator[None]:
    """The body runs under the limit of core files among these, if there is one."""
    if "CORE" not in limits:
        yield
        return
    former = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, limits["CORE"])
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, former)
