"""What a broken promise looks like, and how much two clocks of observation may differ.

Every bound leans to the side on which a correct daemon cannot fail, however slow the machine.
"""

from dataclasses import dataclass

from tests.chaos.record import Deed, Line, Story

LATE_SECONDS = 15.0
"""How much later than its bound something may be on a machine that others load too."""

EARLY_SECONDS = 0.75
"""How long a worker may take to write a signal down: its window seems shorter by that."""

DOWN = {"down", "drained"}

TICK_SECONDS = 0.03
"""The kernel tells the moment of a start to a hundredth of a second."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken promise and its evidence."""

    promise: str
    text: str
    evidence: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join([f"promise {self.promise}: {self.text}", *self.evidence])


def evidence(story: Story, instance: str, at: float, *more: object) -> tuple[str, ...]:
    """What was written about an instance around this moment, and what was done to it."""
    own = [line for line in story.lines if line.instance == instance and -20 < line.at - at < 10]
    tasks = [line for line in own if line.what in {"begun", "done"}][:-3]
    lines: list[Line | Deed] = []
    lines += [line for line in own if line not in tasks][-24:]
    lines += [
        deed
        for deed in story.deeds
        if -20 < deed.at - at < 10
        and (deed["instance"] == instance or (deed.kind == "wish" and deed.touches(instance)))
    ]
    lines += [deed for deed in story.of("freeze-daemon", "break-command") if -20 < deed.at - at < 10]
    return (*(str(line) for line in sorted(lines, key=lambda line: line.at)), *(str(one) for one in more))
