"""Where an instance is, where it should be, and which moves between the two are legal.

This is the map of the whole life cycle: `LEGAL_MOVES` is the table a reader looks at, and the
diagram in `docs/explanation/life-cycle.md` is generated from it. It knows nothing about why an
instance moves; see `lifecycle` for that.
"""

from collections.abc import Mapping
from enum import StrEnum


class Phase(StrEnum):
    """Where an instance is. `RUNNING` means it has been ready once in this generation."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    STOPPED = "stopped"
    FAILED = "failed"
    STUCK = "stuck"


class Goal(StrEnum):
    """Where the operator wants it; separate from where it is."""

    UP = "up"
    DOWN = "down"
    DRAINED = "drained"


# A stop walks DRAINING and STOPPING with one process; whatever ended it, the next phase is one of these.
_GONE = frozenset({Phase.PENDING, Phase.BACKOFF, Phase.STOPPED, Phase.FAILED})

LEGAL_MOVES: Mapping[Phase, frozenset[Phase]] = {
    Phase.PENDING: frozenset({Phase.STARTING, Phase.STOPPED}),
    Phase.STARTING: _GONE | {Phase.RUNNING, Phase.DRAINING, Phase.STOPPING},
    Phase.RUNNING: _GONE | {Phase.DRAINING, Phase.STOPPING},
    # Back to RUNNING only while it settles: nothing has been asked of the worker yet.
    Phase.DRAINING: _GONE | {Phase.RUNNING, Phase.STOPPING},
    Phase.STOPPING: _GONE | {Phase.STUCK},
    Phase.BACKOFF: frozenset({Phase.PENDING, Phase.STOPPED}),
    Phase.STOPPED: frozenset({Phase.PENDING}),
    Phase.FAILED: frozenset({Phase.PENDING, Phase.STOPPED}),
    Phase.STUCK: _GONE,
}

HAS_PROCESS = frozenset({Phase.STARTING, Phase.RUNNING, Phase.DRAINING, Phase.STOPPING, Phase.STUCK})
"""The phases in which a process of the current generation (or its tree) may be alive."""

ON_THE_WAY_OUT = frozenset({Phase.DRAINING, Phase.STOPPING})
"""The phases of the stop ladder."""
