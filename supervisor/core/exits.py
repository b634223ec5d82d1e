"""How a generation ended: the raw status, and the class an operator reads.

Decides only what an exit means; whether it is followed by a new start is `lifecycle`'s business.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum


class ExitClass(StrEnum):
    """The word for an ending, in the API, the metrics and the logs."""

    CLEAN = "clean"
    FAILURE = "failure"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out-of-memory"
    WATCHDOG = "watchdog"
    PROBE = "probe"
    STARTUP_TIMEOUT = "startup-timeout"
    SPAWN_ERROR = "spawn-error"


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """What the kernel said: an exit `code`, or the name of the `signal` that ended it ("SIGKILL").

    Both are None where the status could not be read.
    """

    code: int | None = None
    signal: str | None = None
    core_dumped: bool = False
    out_of_memory: bool = False

    def __str__(self) -> str:
        if self.signal is not None:
            return self.signal + (" (core dumped)" if self.core_dumped else "")
        return "exit status unknown" if self.code is None else f"exit {self.code}"


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """The ending of one generation, as kept on the instance.

    `rung` names the stage of the stop that ended it, or is None when it ended by itself; `at` is
    monotonic seconds; `leftovers` counts processes of the tree that were still there.
    """

    generation: int
    exit_class: ExitClass
    detail: str
    at: float
    uptime_seconds: float
    rung: str | None = None
    code: int | None = None
    leftovers: int = 0
    last_lines: tuple[str, ...] = ()


SIGNAL_NUMBERS = {
    "SIGHUP": 1,
    "SIGINT": 2,
    "SIGQUIT": 3,
    "SIGABRT": 6,
    "SIGKILL": 9,
    "SIGUSR1": 10,
    "SIGUSR2": 12,
    "SIGTERM": 15,
    "SIGCONT": 18,
    "SIGTSTP": 20,
    "SIGTTIN": 21,
    "SIGTTOU": 22,
    "SIGWINCH": 28,
}
"""The signals a manifest may name, by their Linux numbers (signal(7); the same on x86 and ARM)."""


def is_ours(status: ExitStatus, sent: Collection[str]) -> bool:
    """Whether a signal that we sent explains this status, also as the shell's 128 + n."""
    if status.signal is not None:
        return status.signal in sent
    return status.code is not None and any(status.code == 128 + SIGNAL_NUMBERS[name] for name in sent)
