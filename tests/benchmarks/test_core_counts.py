"""What a decision costs, counted instead of timed: the same on a busy machine and on an idle one.

One respawn of the core is five events (see `bench_core`). It is counted when nothing is done for the
first time any more, on a small host and on a large one.
"""

import gc
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from types import FrameType

import pytest

from tests.benchmarks.bench_core import Fleet

SIZES = (10, 1000)
RESPAWNS = 500
WARMING = 3 * RESPAWNS
VICTIMS = 10
"""The same few die again and again, on the large host as well, until no record of them grows any more."""

MOST_BYTES = 4200
"""In use more than before, at the worst moment of a respawn; 3370 counted."""

MOST_CALLS = 570
"""Of functions, those of the interpreter included; 514 counted."""

MOST_BLOCKS = 0.5
"""That are still in use after a respawn; 0.05 counted, superseded deadlines that are swept later."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector, whose turn depends on everything else that has been allocated."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def warm(size: int) -> Fleet:
    """A host of so many, on which each of the victims has died often."""
    fleet = Fleet(size)
    for index in range(WARMING):
        fleet.cycle(index % VICTIMS)
    return fleet


def bytes_of_a_respawn(fleet: Fleet) -> float:
    """The most that is in use during one, beyond what was before."""
    found = []
    tracemalloc.start()
    try:
        for index in range(RESPAWNS):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            fleet.cycle(index % VICTIMS)
            found.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    # Now and then a table grows, which is paid by all the others.
    return median(found)


def calls_of_a_respawn(fleet: Fleet) -> float:
    """How many functions are called in one."""
    count = 0

    def called(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(called)
    try:
        for index in range(RESPAWNS):
            fleet.cycle(index % VICTIMS)
    finally:
        sys.setprofile(None)
    return count / RESPAWNS


def test_a_respawn_allocates_as_little_on_a_large_host() -> None:
    """No copy is made of what belongs to all instances."""
    with uncollected():
        small, large = (bytes_of_a_respawn(warm(size)) for size in SIZES)
    assert small <= MOST_BYTES
    assert large <= small * 1.1


def test_a_respawn_calls_as_little_on_a_large_host() -> None:
    """No loop goes over all instances."""
    small, large = (calls_of_a_respawn(warm(size)) for size in SIZES)
    assert small <= MOST_CALLS
    assert large <= small * 1.1


@pytest.mark.parametrize("size", SIZES)
def test_a_respawn_leaves_nothing_to_be_collected(size: int) -> None:
    """What a step has made is freed when it ends; the garbage collector would cost as much as the step."""
    with uncollected():
        # A collection empties the interpreter's free lists, which the warming fills again.
        fleet = warm(size)
        before = sys.getallocatedblocks()
        for index in range(RESPAWNS):
            fleet.cycle(index % VICTIMS)
        kept = sys.getallocatedblocks() - before
        unreachable = gc.collect()
    assert kept <= MOST_BLOCKS * RESPAWNS
    assert unreachable < RESPAWNS / 10
