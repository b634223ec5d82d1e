"""What a checker is: someone who looks on and fails an assertion whose message names the instance.

It sees each event before its step, each step with its effects before they are performed, the host
whenever nothing more is due at this moment, and the end. It judges by the kernel's truth and the
witness, and refuses to take the core's word for what happened.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from supervisor.core.effects import Effect
from supervisor.core.events import Event
from supervisor.core.identity import InstanceId

if TYPE_CHECKING:
    from tests.simulation.world import World

EPSILON = 1e-6
"""Sums of floats differ by less than this (seconds)."""
Name = tuple[InstanceId, int]
"""An instance and its generation: the identity of a process."""


class Checker:
    """Looks on; each method may fail."""

    def before(self, world: "World", event: Event) -> None:
        """An event is about to be taken."""

    def after(self, world: "World", event: Event, effects: Sequence[Effect]) -> None:
        """A step was taken; its acts are not performed yet."""

    def settled(self, world: "World") -> None:
        """Acts are performed and nothing more is due at this moment."""

    def ended(self, world: "World") -> None:
        """Faults have stopped and the bound has passed."""
