"""What `processes` needs of its neighbours: where output goes, and which sockets there are."""

from typing import Protocol

from supervisor.core.identity import InstanceId
from supervisor.core.launch import ListenSocket, LogPolicy


class OutputPort(Protocol):
    """What is needed of the capture of output."""

    def writer(
        self, instance: InstanceId, logs: LogPolicy, generation: int, *, owner: int | None = None
    ) -> int:
        """A descriptor for standard output and error, which the caller closes after the spawn."""
        ...

    def drain(self, instance: InstanceId) -> None:
        """Take what has been written and not read yet, within a bound."""
        ...

    def tail(self, instance: InstanceId, lines: int) -> tuple[str, ...]:
        """The last lines of output."""
        ...


class SocketsPort(Protocol):
    """What is needed of the sockets that workers are handed."""

    def descriptors(self, wanted: tuple[ListenSocket, ...]) -> tuple[int, ...]:
        """The descriptors of these sockets, which stay open; raises OSError if one cannot be had."""
        ...
