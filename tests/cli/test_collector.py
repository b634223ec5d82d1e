"""The collector looks at what is new, and never again at what has survived."""

import gc
from collections.abc import Iterator

import pytest

from supervisor.cli import pitbossd_collector


@pytest.fixture
def collector() -> Iterator[None]:
    """The collector of this process, and as it was afterwards."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(pitbossd_collector._after)
    gc.unfreeze()


@pytest.mark.usefixtures("collector")
def test_many_survivors_are_not_looked_at_again() -> None:
    """A full collection leaves nothing to look at for the next one, and what nobody needs is still freed."""
    pitbossd_collector.tame()
    many = pitbossd_collector.WORTH_FREEZING + 1
    kept = [[number] for number in range(many)]
    gc.collect()
    assert len(gc.get_objects()) < 500
    frozen = gc.get_freeze_count()
    assert frozen > many
    kept.clear()
    assert gc.get_freeze_count() <= frozen - many


@pytest.mark.usefixtures("collector")
def test_a_cycle_among_few_is_freed_whenever_it_dies() -> None:
    """What clients and checks were asking during a full collection is not lost for good afterwards."""
    pitbossd_collector.tame()
    cycle: list[object] = []
    cycle.append(cycle)
    gc.collect()
    assert gc.is_tracked(cycle)
    del cycle
    assert gc.collect() == 1


@pytest.mark.usefixtures("collector")
def test_young_cycles_are_collected() -> None:
    """What dies young is freed also where it refers to itself, without a full collection."""
    pitbossd_collector.tame()
    for _ in range(3 * pitbossd_collector.THRESHOLDS[0]):
        cycle: list[object] = []
        cycle.append(cycle)
    assert len(gc.get_objects()) < 2 * pitbossd_collector.THRESHOLDS[0]
