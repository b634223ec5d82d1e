"""Two hundred simulated hosts, each with its own plan, faults and operator; `make soak` runs more."""

import pytest

from tests.simulation.__main__ import main
from tests.simulation.world import World

SEEDS = 200
PER_TEST = 20


@pytest.mark.parametrize("first", range(1, SEEDS + 1, PER_TEST))
def test_every_promise_is_kept(first: int) -> None:
    """No checker objects, in the safety phase nor in the liveness phase."""
    for seed in range(first, first + PER_TEST):
        World(seed).run()


def test_a_seed_tells_the_same_story_twice() -> None:
    """The seed decides everything, so that a failure can be seen again."""
    worlds = [World(7), World(7)]
    for world in worlds:
        world.run()
    assert list(worlds[0].moves) == list(worlds[1].moves)
    assert worlds[0].steps == worlds[1].steps
    assert worlds[0].host == worlds[1].host


def test_a_seed_is_replayed_by_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    """`make sim SEED=7` says how it went and shows the last moves."""
    assert main(["--seed", "7"]) == 0
    assert main(["7"]) == 0
    told = capsys.readouterr().out
    assert "seed 7, commit " in told
    assert "every promise kept" in told


def test_a_soak_ends_after_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """A soak shows how far it is, and stops by itself."""
    assert main(["--steps", "100"]) == 0
    assert " of 100 steps, seeds 1 to 3, " in capsys.readouterr().out


def test_a_broken_promise_tells_its_story(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the seed and the commit, shows the moves, and says how to see it again."""
    monkeypatch.setattr("supervisor.core.host.lifecycle.due", lambda scene, instance: 1 / 0)
    assert main(["--steps", "5000"]) == 1
    assert main(["1"]) == 1
    told = capsys.readouterr().out
    assert "the core raised ZeroDivisionError" in told
    assert "seed 1, commit " in told
    assert "make sim SEED=1" in told
    assert main(["--steps", "5000", "--keep-going"]) == 1
