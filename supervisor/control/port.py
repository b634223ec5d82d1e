"""All that the control plane may ask of the engine; the rest of the runtime does not exist for it."""

from typing import Protocol

from supervisor.core.effects import Effect
from supervisor.core.events import OperationWish, OperatorWish
from supervisor.core.state import Host


class EnginePort(Protocol):
    """Post a wish, read a snapshot, wait for a change."""

    @property
    def host(self) -> Host:
        """The state as of the last step. Read it without awaiting in between, and never write."""

    @property
    def faults(self) -> int:
        """How many steps broke an invariant since the daemon started; anything but 0 is our bug."""

    def now(self) -> float:
        """The clock of every moment in `host`, monotonic seconds."""

    async def ask(self, wish: OperatorWish | OperationWish) -> tuple[Effect, ...]:
        """Take a wish and return its effects, among them exactly one `Accepted` or `Refused`."""

    async def changed(self, after: int) -> None:
        """Return as soon as `host.revision` is greater than `after`. Put your own time-out around it."""

    async def durable(self) -> str | None:
        """Wait until the intents so far are on disk; the reason if they could not be written."""
