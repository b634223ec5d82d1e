"""One line for one move of a simulated host: when, what happened, what moved, what was asked for."""

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from supervisor.core.effects import Accepted, Act, Climbed, Effect, Moved, ReadyChanged, Refused
from supervisor.core.events import Event
from tests.playbook import say

if TYPE_CHECKING:
    from tests.simulation.world import World

_SHOWN = (Act, Moved, Climbed, ReadyChanged, Accepted, Refused)


def line(world: "World", event: Event, effects: Iterable[Effect]) -> str:
    """The whole step in one line; reports that only repeat a move are left out."""
    told = [say(effect) for effect in effects if isinstance(effect, _SHOWN)]
    return f"{world.now - world.began_at:9.3f}  {describe(event):44} -> {'; '.join(told) or '-'}"


def describe(event: Event) -> str:
    """An event in a few words; what it does not say is left out."""
    words = [type(event).__name__]
    for one in fields(event):
        value: Any = getattr(event, one.name)
        if one.name == "wish":
            words.append(f"{value.scope} ({value.operation})")
        elif one.name == "generation":
            words[-1] += f"#{value}"
        elif one.name in {"instance", "operation"}:
            words.append(str(value))
        elif value not in (None, False, "", 0, ()) and one.name != "most":
            words.append(f"{one.name}={value}")
    return " ".join(words)
