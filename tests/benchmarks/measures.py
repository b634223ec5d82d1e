"""What a comparison measures: each part of it, with how many workers, and of which supervisors.

A turn is what is done with one subject in one round. In which order turns are taken, and what becomes
of their numbers, is decided elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

from tests.benchmarks import narrow
from tests.benchmarks.capture import capture
from tests.benchmarks.family import family
from tests.benchmarks.life import (
    life,
    overshoot,
    replaced_together,
    replacements,
    rest,
    start,
    stop,
)
from tests.benchmarks.load import asking, bothered, killed_under
from tests.benchmarks.ours import Bound
from tests.benchmarks.roll import rolled
from tests.benchmarks.subject import Subject

FLOODED = (101, 200, 1000)
"""A hundred that write without end, as worker.c decides, and the quiet ones that are killed."""
FLOOD_FILES = (8 * 2**20, 1)
"""Small enough that those of a hundred have room in memory: 1.6 GiB."""
KILLS = {1: 3, 3: 3, 200: 10, 1000: 10}
"""By the number of workers; none with another."""
Turn = Callable[[Subject, int], dict[str, float]]


@dataclass(frozen=True)
class Part:
    """One part of a comparison: a turn for each number of workers, and who can be asked for it."""

    name: str
    turns: dict[int, Turn]
    can: Callable[[Subject], bool] = lambda subject: True
    most_rounds: int = 1000


def one_life(kills: int, settle: float) -> Turn:
    """Start, kill some, stop."""

    def turn(subject: Subject, instances: int) -> dict[str, float]:
        with life(subject, instances, settle=settle) as one:
            found = start(one)
            if kills:
                found["kill to replacement"] = median(replacements(one, kills))
            else:
                rest(settle)
            return found | stop(one)

    return turn


def hung(subject: Subject, instances: int) -> dict[str, float]:
    """Stop workers that do not end."""
    with life(subject, instances, grace=1, words=("hang",), settle=0.1) as one:
        return {"past the grace window": overshoot(one)}


def everything(subject: Subject, instances: int) -> dict[str, float]:
    """Kill all workers at one moment."""
    with life(subject, instances) as one:
        return {"all killed to all replaced": replaced_together(one)}


def flooded(subject: Subject, instances: int, *, kills: int) -> dict[str, float]:
    """Kill the quiet ones of workers of which a hundred write without end."""
    with (
        life(subject, instances, words=("crowd", "{directory}/"), rotation=FLOOD_FILES) as one,
        one.gate.open("wb"),
    ):
        return killed_under("flood", one, kills)


def parts(sizes: list[int], settle: float, *, smoke: bool) -> list[Part]:
    """All of them, in the order in which they are measured; for a smoke test each as small as it can be."""
    some = {3 if smoke else 200}
    users = narrow.may_give_users()
    return [
        Part("lives", {size: one_life(KILLS.get(size, 0), settle) for size in sizes}),
        Part("hung", {3 if smoke else 100: hung}),
        Part("all", {3 if smoke else 1000: everything}),
        Part(
            "logs",
            {size: partial(capture, mib=1 if smoke else 512) for size in ([1] if smoke else [1, 100])},
            lambda subject: subject.rotates,
        ),
        Part("limits", dict.fromkeys(some, narrow.with_a_limit), lambda subject: subject.limits),
        Part("users", dict.fromkeys(some, narrow.with_a_user), lambda subject: users),
        Part(
            "narrow",
            {size: partial(narrow.replaced, kills=KILLS[size]) for size in ([3] if smoke else [1, 200])},
            lambda subject: users and subject.limits,
        ),
        Part("family", {1: family}, most_rounds=1),
        Part(
            "flood",
            {size: partial(flooded, kills=3 if smoke else 100) for size in FLOODED[: 1 if smoke else 3]},
            lambda subject: subject.rotates,
        ),
        Part(
            "clients",
            {
                size: partial(bothered, kills=3 if smoke else 100)
                for size in ([3] if smoke else [1, 200, 1000])
            },
            lambda subject: subject.asked or isinstance(subject, Bound),
        ),
        Part(
            "asking",
            {3 if smoke else 1000: partial(asking, seconds=0.2 if smoke else 4.0)},
            lambda subject: subject.asked,
        ),
        Part(
            "roll", dict.fromkeys([3] if smoke else [20, 100], rolled), lambda subject: bool(subject.shares)
        ),
    ]
