"""What a wait says in a pipe: one plain line for each change, so that a deploy log tells the story.

Decides what counts as a change: another phase, rung, generation or readiness; a count of work in flight
that goes down is told at most every few seconds.
"""

import time

from supervisor.cli.ctl.durations import left
from supervisor.cli.ctl.follow import Picture
from supervisor.cli.ctl.text import Line, Span
from supervisor.cli.ctl.view import InstanceView, OperationView

WORK_SECONDS = 5.0
"""How often at most a mere change of what it waits for is told, for each instance."""

_AT_REST = frozenset({"running", "stopped"})


class Changes:
    """Remembers what was told last, and returns the lines that are new."""

    def __init__(self, names: frozenset[str] | None = None) -> None:
        """`names` are the instances and pools that are told about; None: all."""
        self._names = names
        self._told: dict[str, tuple[object, ...]] = {}
        self._awaited: dict[str, str] = {}
        self._awaited_at: dict[str, float] = {}
        self._states: dict[str, str] = {}
        self._steps: dict[tuple[str, str], str] = {}
        self._lost = False
        self._first = True

    def lines(self, picture: Picture) -> list[Line]:
        """The lines for what has changed since the last call."""
        texts: list[str] = []
        if picture.lost is not None and not self._lost:
            texts.append("pitbossd does not answer; trying again")
        self._lost = picture.lost is not None
        for operation in picture.operations.values():
            texts.extend(self._of_operation(operation))
        if picture.host is not None:
            for one in picture.host.instances().values():
                if self._names is None or one.name in self._names or one.pool in self._names:
                    texts.extend(self._of_instance(one, picture.waited))
            self._first = False
        return [(Span(text),) for text in texts]

    def _of_operation(self, operation: OperationView) -> list[str]:
        texts = []
        before = self._states.get(operation.id)
        title = f"{operation.kind} {operation.target}"
        if before is None and not operation.final:
            noun = "instance" if operation.total == 1 else "instances"
            texts.append(f"{title}: {operation.total} {noun}, operation {operation.id}")
        elif before is not None and before != operation.state and not operation.final:
            texts.append(f"{title} {operation.state}: {operation.done}/{operation.total} done")
        self._states[operation.id] = operation.state
        for step in operation.steps:
            key = (operation.id, step.instance)
            if step.state in {"failed", "aborted"} and self._steps.get(key) != step.state:
                texts.append(
                    f"{step.instance} {step.state}: {step.detail}"
                    if step.detail
                    else f"{step.instance} {step.state}"
                )
            self._steps[key] = step.state
        return texts

    def _of_instance(self, one: InstanceView, waited: float) -> list[str]:
        key = (one.phase, one.stage, one.generation, one.ready, one.goal)
        before = self._told.get(one.name)
        awaited = self._awaited.get(one.name)
        now = time.monotonic()
        self._told[one.name] = key
        self._awaited[one.name] = one.waiting_for
        if before == key:
            due = now - self._awaited_at.get(one.name, 0.0) >= WORK_SECONDS
            if awaited == one.waiting_for or not one.waiting_for:
                return []
            if not due:
                self._awaited[one.name] = awaited or ""
                return []
        elif self._first and one.phase in _AT_REST and one.since > waited:
            return []
        self._awaited_at[one.name] = now
        return [change(one)]


def change(one: InstanceView) -> str:
    """One line on where it is now: "emails/2 draining: drain, window 60 s, waiting for 3 in flight"."""
    if one.phase in {"draining", "stopping"}:
        parts = _on_a_rung(one)
    elif one.phase == "running":
        reason = f", {one.unready_reason}" if one.unready_reason else ""
        parts = [f"ready, generation {one.generation}" if one.ready else f"not ready{reason}"]
    elif one.phase == "starting":
        awaited = one.waiting_for or one.unready_reason
        parts = [f"generation {one.generation}", f"waiting for {awaited}" if awaited else ""]
    elif one.phase in {"stopped", "failed", "backoff"}:
        parts = _after_an_exit(one)
    elif one.phase == "stuck":
        parts = ["it outlived SIGKILL"]
    else:
        parts = [f"waiting for {one.waiting_for}" if one.waiting_for else ""]
    told = ", ".join(part for part in parts if part)
    return f"{one.name} {one.word}: {told}" if told else f"{one.name} {one.word}"


def _on_a_rung(one: InstanceView) -> list[str]:
    parts = [f"{one.stage} {one.stage_signal}".strip()]
    if one.deadline is not None:
        since = one.stage_since if one.stage_since is not None else one.since
        parts.append(f"window {round(one.deadline + since):d} s")
    return [*parts, f"waiting for {one.waiting_for}" if one.waiting_for else ""]


def _after_an_exit(one: InstanceView) -> list[str]:
    parts = []
    if one.phase == "backoff" and one.deadline is not None:
        parts.append(f"starts in {left(one.deadline)}")
    if one.last_exit is not None:
        parts.append(one.last_exit.detail + (f" on {one.last_exit.rung}" if one.last_exit.rung else ""))
    return parts
