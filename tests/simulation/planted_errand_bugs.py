"""Bugs to plant in what falls between the steps of a wish for many; see `planted_bugs` for all others."""

from typing import Any

import pytest

from supervisor.core import errands, host, turn
from supervisor.core.state import Leave

Patch = pytest.MonkeyPatch


def goals_come_late(patch: Patch) -> None:
    """The goal of an instance is written when its turn comes, not when it is wished."""
    late: dict[Any, Any] = {}
    tell = errands._tell

    def put_goals(turn: Any, keys: Any, goal: Any, request_id: str) -> None:
        late.update((key, goal) for key in keys)

    def told(turn: Any, errand: Any, key: Any) -> None:
        if key in late and key in turn.host.instances:
            turn.put(turn.host.instances[key]._replace(goal=late.pop(key)))
        tell(turn, errand, key)

    patch.setattr(turn.Turn, "put_goals", put_goals)
    patch.setattr(errands, "_tell", told)


def taken_back_too_late(patch: Patch) -> None:
    """Who is wanted up again is told to leave all the same, because that was wished for first."""
    tell = errands._tell

    def told(turn: Any, errand: Any, key: Any) -> None:
        instance = turn.host.instances.get(key)
        if instance is not None and isinstance(errand.purpose, Leave) and not instance.surge:
            turn.put(errands._leave(turn.scene(key.pool), instance, errand.purpose))
        tell(turn, errand, key)

    patch.setattr(errands, "_tell", told)


def one_is_passed_over(patch: Patch) -> None:
    """After each step of an errand one instance is forgotten."""
    real = errands.carry_on

    def carry_on(turn: Any, name: str, most: int) -> int:
        told = real(turn, name, most)
        errand = turn.host.errands.get(name)
        if errand is not None:
            turn.put_errand(name, errand._replace(seen=errand.seen + 1), turn.now)
        return told

    patch.setattr(errands, "carry_on", carry_on)


def halt_does_not_wait(patch: Patch) -> None:
    """The host is called down although some have yet to be told."""
    real = host._halt_if_over

    def halt(turn: Any) -> None:
        pending, turn.host.errands = turn.host.errands, {}
        try:
            real(turn)
        finally:
            turn.host.errands = pending

    patch.setattr(host, "_halt_if_over", halt)
