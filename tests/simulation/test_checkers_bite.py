"""Each checker fails when its promise is broken on purpose: one that never bites proves nothing.

A planted bug changes the core (or the kernel) in one place. Within a bounded number of seeds exactly
the checkers that speak for the promise must object.
"""

from collections.abc import Callable

import pytest

from tests.simulation import checkers
from tests.simulation import planted_bugs as bugs
from tests.simulation import planted_errand_bugs as errand_bugs
from tests.simulation.world import Broken, World

SEEDS = 150

BITES: list[tuple[Callable[[bugs.Patch], None], set[type[checkers.Checker]]]] = [
    (bugs.no_generation_check, {checkers.NothingIsLeft, checkers.OneProcess, checkers.TrueReadiness}),
    (bugs.double_spawn, {checkers.OneProcess}),
    (bugs.kill_too_early, {checkers.KillIsLast}),
    (bugs.drain_skipped, {checkers.KillIsLast}),
    (bugs.record_is_silent, {checkers.KillIsLast}),
    (bugs.cut_is_silent, {checkers.KillIsLast}),
    (bugs.told_before_it_is_killed, {checkers.KillIsLast}),
    (bugs.windows_are_long, {checkers.StopEnds}),
    (bugs.endless_extensions, {checkers.StopEnds}),
    (bugs.shutdown_ignores_its_deadline, {checkers.StopEnds}),
    (bugs.leftovers_are_ignored, {checkers.NothingIsLeft}),
    (bugs.forgotten_reap, {checkers.NothingIsLeft}),
    (bugs.gate_ignored, {checkers.Gates}),
    (bugs.hold_ignored, {checkers.Gates}),
    (bugs.others_wait, {checkers.NoDelay}),
    (bugs.gate_stays_shut, {checkers.NoDelay}),
    (bugs.max_unavailable_ignored, {checkers.Rollouts}),
    (bugs.rollout_goes_on, {checkers.Rollouts}),
    (bugs.too_many_surge, {checkers.OneProcess}),
    (bugs.surge_generation_begins_anew, {checkers.OneProcess}),
    (bugs.nobody_waits_for_the_replacement, {checkers.Rollouts}),
    (bugs.surge_is_counted_twice, {checkers.Rollouts}),
    (bugs.surge_fails_in_silence, {checkers.Rollouts}),
    (bugs.surge_leaves_too_early, {checkers.Rollouts}),
    (bugs.surge_stays_for_ever, {checkers.GoalsAreReached}),
    (bugs.released_too_early, {checkers.NothingIsLeft}),
    (bugs.backoff_ignored, {checkers.Patience}),
    (bugs.never_gives_up, {checkers.Patience}),
    (bugs.wish_not_idempotent, {checkers.Repeatable}),
    (bugs.old_generation_is_signalled, {checkers.OwnGeneration}),
    (bugs.ready_without_asking, {checkers.TrueReadiness}),
    (bugs.stuck_for_ever, {checkers.TrueReadiness}),
    (bugs.counts_drift, {checkers.Bookkeeping}),
    (bugs.deadline_is_lost, {checkers.Bookkeeping}),
    (errand_bugs.goals_come_late, {checkers.Obedience}),
    (errand_bugs.taken_back_too_late, {checkers.Obedience}),
    (errand_bugs.one_is_passed_over, {checkers.GoalsAreReached}),
    (errand_bugs.halt_does_not_wait, {checkers.GoalsAreReached}),
    (bugs.operations_never_end, {checkers.GoalsAreReached}),
    (bugs.backoff_never_ends, {checkers.GoalsAreReached}),
    (bugs.kernel_loses_the_end, {checkers.GoalsAreReached}),
]


@pytest.mark.parametrize(("plant", "speakers"), BITES, ids=[plant.__name__ for plant, _ in BITES])
def test_a_planted_bug_is_found(
    plant: Callable[[bugs.Patch], None],
    speakers: set[type[checkers.Checker]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The checkers that speak for the promise, and only they, look on; one of them objects soon."""
    plant(monkeypatch)
    for seed in range(1, SEEDS + 1):
        world = World(seed, [speaker() for speaker in speakers])
        try:
            world.run()
        except Broken as broken:
            if str(broken).split(":")[0] in {speaker.__name__ for speaker in speakers}:
                return
    pytest.fail(f"nobody objects to {plant.__name__} within {SEEDS} seeds")


def test_every_checker_bites() -> None:
    """No checker goes without a bug that it finds."""
    proven = {speaker for _, speakers in BITES for speaker in speakers}
    assert {type(checker) for checker in checkers.all_checkers()} == proven


def test_every_bug_is_planted() -> None:
    """A bug that was written down is in the list above."""
    written = {
        value
        for module in (bugs, errand_bugs)
        for value in vars(module).values()
        if getattr(value, "__module__", "") == module.__name__
    }
    assert {plant for plant, _ in BITES} == written
