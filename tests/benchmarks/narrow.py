"""What it costs that a worker gets less than its supervisor has: a limit of descriptors, a user of its own.

Some put a program in between for either. Nothing is measured of a worker that has not got what it was
promised. Decides what is asked for; knows nothing of how a supervisor does it.
"""

import os
import pwd
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from statistics import median

from tests.benchmarks.life import Life, life, replacements, start
from tests.benchmarks.subject import Subject

NOFILE = 1024
USER = "nobody"


def may_give_users() -> bool:
    """Whether who runs this may start processes of another user."""
    return os.geteuid() == 0


def _uid(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def _nofile(pid: int) -> int:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(int(line.split()[3]) for line in lines if line.startswith("Max open files"))


def _refuse_others(one: Life, pids: Iterable[int]) -> None:
    """Raise ValueError if a worker has not the limit or the user that was asked for."""
    for pid in pids:
        if one.job.nofile and _nofile(pid) != one.job.nofile:
            raise ValueError(f"a worker of {one.subject.name} has {_nofile(pid)} descriptors")
        if one.job.user and _uid(pid) != pwd.getpwnam(one.job.user).pw_uid:
            raise ValueError(f"a worker of {one.subject.name} runs as {_uid(pid)}")


def started(
    subject: Subject, instances: int, *, given: str, nofile: int = 0, user: str = ""
) -> dict[str, float]:
    """Start workers that each get this."""
    with life(subject, instances, nofile=nofile, user=user) as one:
        _refuse_others(one, one.workers)
        return {f"{measure}, with {given}": value for measure, value in start(one).items()}


def replaced(subject: Subject, instances: int, *, kills: int) -> dict[str, float]:
    """Kill workers that have a limit and a user."""
    with life(subject, instances, nofile=NOFILE, user=USER) as one:
        found = replacements(one, kills)
        _refuse_others(one, one.workers)
        return {"kill to replacement, with a limit and a user": median(found)}


with_a_limit = partial(started, given="a limit", nofile=NOFILE)
with_a_user = partial(started, given="a user", user=USER)
