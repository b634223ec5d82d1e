"""How often the loop of a daemon turns for a start, a respawn and a stop: each is a wake-up that is paid.

Counted by the waits for the next event, as the kernel sees them. A busy machine lets several events fall
into one turn, so it counts less, never more.
"""

import os
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from tests.benchmarks.life import life, stop
from tests.benchmarks.ours import Pitboss
from tests.benchmarks.subject import Job
from tests.benchmarks.test_counts import kill_one
from tests.waiting import eventually

INSTANCES = 50
RESPAWNS = 20

MOST_FOR_A_START = 88
"""Of fifty, until the last worker has begun; 72 counted."""

MOST_FOR_A_RESPAWN = 6
"""Of the smoothest quarter: 5 counted, sometimes 6. The others need up to 8, as threads come late."""

MOST_FOR_A_STOP = 190
"""Of fifty, the daemon's own end included; 168 counted."""

STILL = 10
"""Looks at the trace, a hundredth of a second apart, that find nothing new: then nothing is going on."""


class Traced(Pitboss):
    """Pitboss, with each wait of its main thread in a file; strace stands beside it, not above it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._seen = (0, 0)

    def configure(self, job: Job) -> list[str]:
        strace = ["strace", "-D", "--quiet=attach,exit", "-e", "trace=epoll_wait,epoll_pwait"]
        return [*strace, "-o", str(self.path), *super().configure(job)]

    def turns(self) -> int:
        """How many there were by now."""
        return self.path.read_text().count("epoll_")

    def settled(self) -> int:
        """How many there were when no more come."""
        self._seen = (0, 0)
        eventually(self._is_still)
        return self._seen[0]

    def _is_still(self) -> bool:
        last, times = self._seen
        now = self.turns()
        self._seen = (now, times + 1 if now == last else 0)
        return self._seen[1] >= STILL


@pytest.mark.skipif(
    not shutil.which("strace") and not os.environ.get("CI"), reason="needs the package strace"
)
def test_the_loop_turns_seldom(tmp_path: Path) -> None:
    """No event was added that wakes it once more."""
    subject = Traced(tmp_path / "trace")
    with life(subject, INSTANCES, settle=0.1) as one:
        started = subject.turns()
        seen = [subject.settled()]
        for place in range(RESPAWNS):
            kill_one(one, place)
            seen.append(subject.settled())
        stop(one)
    stopped = subject.settled() - seen[-1]
    respawned = sorted(after - before for before, after in pairwise(seen))
    assert started <= MOST_FOR_A_START
    assert 1 <= respawned[RESPAWNS // 4] <= MOST_FOR_A_RESPAWN, respawned
    assert stopped <= MOST_FOR_A_STOP
