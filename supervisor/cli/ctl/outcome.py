"""How a wish ended, in one line for each target, and what to do where it went wrong."""

from collections.abc import Sequence
from datetime import datetime

from supervisor.cli.ctl.durations import took
from supervisor.cli.ctl.follow import Picture
from supervisor.cli.ctl.notes import rung_sentence
from supervisor.cli.ctl.screen import Screen
from supervisor.cli.ctl.text import Line, Span
from supervisor.cli.ctl.view import InstanceView, OperationView, StepView

STEPS_SHOWN = 5

PAST = {
    "drain": "drained",
    "resume": "up again",
    "restart": "restarted",
    "stop": "stopped",
    "start": "up",
    "signal": "signalled",
    "shutdown": "down",
}
"""What a target is when the wish of that kind came true; a wish of a newer daemon is "done"."""


def past(operation: OperationView) -> str:
    """What the target is once the operation has succeeded."""
    return PAST.get(operation.kind, "done")


def subject(operation: OperationView) -> str:
    """The target as a person writes it."""
    return "host" if operation.target == "host" else operation.target


def selector(target: str | None) -> str:
    """The target as it is typed."""
    return "--all" if target in {None, "host"} else str(target)


def lasted(operation: OperationView, otherwise: float) -> str:
    """How long the operation took, by the daemon's clock if it says so."""
    try:
        began = datetime.fromisoformat(operation.started_at)
        ended = datetime.fromisoformat(operation.finished_at)
        return took((ended - began).total_seconds())
    except (ValueError, TypeError):
        return took(otherwise)


def outcome_lines(operation: OperationView, picture: Picture, screen: Screen) -> list[Line]:
    """The outcome of an operation that is final."""
    symbols = screen.symbols
    reached = sum(step.state == "done" for step in operation.steps) if operation.steps else operation.done
    duration = lasted(operation, picture.waited)
    who = subject(operation)
    if operation.succeeded:
        if operation.total == 0:
            told = f"{past(operation)}: {operation.message or 'nothing to do'}"
        elif operation.total == 1:
            detail = operation.steps[0].detail if operation.steps else ""
            plain_detail = "" if detail in {"", "done", "ready", past(operation)} else f"{detail}, "
            told = f"{past(operation)}: {plain_detail}{duration}"
        else:
            told = f"{past(operation)}: {_of(reached, operation.total)}{duration}"
        return [(Span(f"{symbols.good} ", "green"), Span(who, "bold"), Span(f" {told}"))]
    verdict = f"not {past(operation)}" if operation.state == "failed" else f"{operation.kind} aborted"
    count = f": {_of(reached, operation.total)}{duration}"
    lines: list[Line] = [(Span(f"{symbols.bad} ", "red"), Span(who, "bold"), Span(f" {verdict}{count}"))]
    troubled = [step for step in operation.steps if step.state in {"failed", "aborted"}]
    named = any(step.detail and step.detail in operation.message for step in troubled)
    if operation.message and not (named and troubled):
        lines.append((Span(f"  {operation.message}"),))
    lines.extend(_steps(troubled))
    if troubled:
        lines.append(
            (Span(f"  pitbossctl explain {troubled[0].instance}", "dim"), Span("  says more", "dim"))
        )
    return lines


def _of(done: int, total: int) -> str:
    return f"{done} of {total} instances, " if total > 1 else ""


def _steps(steps: Sequence[StepView]) -> list[Line]:
    failed = sorted(steps, key=lambda step: step.state != "failed")
    lines: list[Line] = [
        (
            Span(f"  {step.instance} {step.state}", "red" if step.state == "failed" else ""),
            Span(f": {step.detail}" if step.detail else ""),
        )
        for step in failed[:STEPS_SHOWN]
    ]
    if len(failed) > STEPS_SHOWN:
        lines.append((Span(f"  and {len(failed) - STEPS_SHOWN} more instances", "dim"),))
    return lines


def unfinished_lines(operation: OperationView, picture: Picture, screen: Screen, limit: str) -> list[Line]:
    """Where things stand when the wait is over before the operation."""
    lines: list[Line] = [
        (
            Span(f"{screen.symbols.bad} ", "red"),
            Span(subject(operation), "bold"),
            Span(
                f" not {past(operation)} {limit}: {_of(operation.done, operation.total)}the operation goes on"
            ),
        )
    ]
    instances = picture.host.instances() if picture.host is not None else {}
    open_steps = [step for step in operation.steps if step.state in {"running", "waiting"}]
    lines.extend(
        standing_line(instances[step.instance], picture.elapsed)
        for step in open_steps[:STEPS_SHOWN]
        if step.instance in instances
    )
    if len(open_steps) > STEPS_SHOWN:
        lines.append((Span(f"  and {len(open_steps) - STEPS_SHOWN} more instances", "dim"),))
    lines.append((Span(f"  pitbossctl operations {operation.id} --wait", "dim"), Span("  follows it", "dim")))
    return lines


def standing_line(one: InstanceView, elapsed: float) -> Line:
    """Where one instance is that is not there yet."""
    if one.phase in {"draining", "stopping"}:
        told = rung_sentence(one, elapsed)
    else:
        told = one.waiting_for or one.unready_reason or (one.last_exit.detail if one.last_exit else "")
        told = f"waiting for {told}" if one.waiting_for else told
    return (Span(f"  {one.name} {one.word}"), Span(f": {told}" if told else ""))


def comeback_line(kind: str, targets: Sequence[str | None]) -> Line | None:
    """How to undo a drain or a stop."""
    verb = {"drain": "resume", "stop": "start"}.get(kind)
    if verb is None:
        return None
    names = " ".join(selector(target) for target in targets)
    them = "them" if len(targets) > 1 else "it"
    return (Span(f"  pitbossctl {verb} {names}", "dim"), Span(f"  brings {them} back", "dim"))
