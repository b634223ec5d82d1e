"""Steps leave nothing behind that only the garbage collector could free: its pauses hold the loop."""

import gc

from supervisor.core.events import Booted
from tests.benchmarks.bench_wishes import WISHES, Crowd


def test_a_whole_life_leaves_no_cycle() -> None:
    """Boot, every wish for a pool that others depend on, and the end: nothing refers to itself."""
    crowd = Crowd(20)
    gc.collect()
    gc.disable()
    try:
        for number, make in enumerate((lambda _: Booted(), *WISHES)):
            crowd.live(make(f"op{number}"))
        # The windows of a shutdown are fitted by a function that calls itself: once in a life.
        assert gc.collect() < 20
    finally:
        gc.enable()
