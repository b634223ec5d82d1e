"""Who leaves what behind: the children of a worker that ended, counted after crashes and stops.

One worker with a child in its process group and one in a session of its own (`family.c`). The numbers
are 1 for a child that lives and 0 for one that is gone. Knows nothing of who supervises.
"""

import time
from collections.abc import Iterable
from pathlib import Path

from tests.benchmarks.kin import Watch
from tests.benchmarks.life import END_WITHIN, REPLACE_WITHIN, Life, life, rest
from tests.benchmarks.records import Record
from tests.benchmarks.subject import Subject

WHERE = {"G": "in its group", "S": "in its own session"}
GRANT_SECONDS = 1.0
"""How long a child may take to end after its worker was replaced, or its supervisor ended."""


def _lives(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _left(records: Iterable[Record], after: str) -> dict[str, float]:
    """Which of the children live when they had their time."""
    children = {WHERE[record.kind]: record.pid for record in records if record.kind in WHERE}
    until = time.monotonic() + GRANT_SECONDS
    while any(map(_lives, children.values())) and time.monotonic() < until:
        rest(0.02)
    return {f"left after {after}, {where}": float(_lives(pid)) for where, pid in children.items()}


def _stopped(one: Life, workers: Iterable[Record]) -> None:
    """Stop everything, and wait until the supervisor and the worker among these have ended."""
    one.workers = [record.pid for record in workers]
    end = Watch()
    end.add({*one.supervisors(), *(record.pid for record in workers if record.kind == "B")})
    one.subject.stop(one.process, one.job)
    if not end.wait(END_WITHIN):
        raise TimeoutError(f"{one.subject.name} has not ended after {END_WITHIN:g} s")
    end.close()


def _crashed(one: Life) -> list[Record]:
    """Kill the worker; what its replacement and the children of that say."""
    watch = Watch()
    watch.add(one.workers)
    watch.kill(next(record.pid for record in one.began if record.kind == "B"))
    watch.close()
    return one.records.take(1, REPLACE_WITHIN)


def family(subject: Subject, instances: int) -> dict[str, float]:
    """What is left of a worker that was killed, before and after a stop, and of two that were stopped."""
    assert instances == 1
    with life(subject, instances, program="family") as one:
        rest(one.settle_seconds)
        replaced = _crashed(one)
        found = _left(one.began, "a crash")
        rest(one.settle_seconds)
        _stopped(one, replaced)
        found |= _left(one.began, "a crash and a stop") | _left(replaced, "a stop")
    with life(subject, instances, program="family", words=("obey",)) as one:
        rest(one.settle_seconds)
        _stopped(one, one.began)
        return found | _left(one.began, "a stop that it obeyed")
