"""One structured line per move of an instance, and per rung, ending, goal and operation.

Decides which report deserves a line and how loud it is. How a line looks is `log_forms`; where it
goes is `logs`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from supervisor.core.effects import (
    Cause,
    Climbed,
    Ended,
    Extended,
    GoalChanged,
    Moved,
    OperationChanged,
    ReadyChanged,
    Report,
    StopEnded,
)
from supervisor.core.exits import ExitClass
from supervisor.core.phases import Phase
from supervisor.core.state import Host, Operation, OperationState
from supervisor.telemetry.log_forms import Fields
from supervisor.telemetry.logs import LogLines

log = logging.getLogger(__name__)

ENDED_OPERATIONS_KEPT = 256
"""Operations remembered after their end, so that a late report about one makes no second line."""

_UNWELL = frozenset({Cause.LIVENESS, Cause.WATCHDOG, Cause.STARTUP_TIMEOUT, Cause.LEFTOVERS})


class MoveLog:
    """An observer of the engine: one line per move, rung, ending, goal and operation."""

    def __init__(self, lines: LogLines, logger: logging.Logger = log) -> None:
        self._lines = lines
        self._log = logger
        self._operations: dict[str, bool] = {}
        """Whether it has ended, for each operation that had a line."""
        self._tellers: Mapping[type, Callable[[Any, Host], None]] = {
            Moved: self._moved,
            Climbed: self._climbed,
            ReadyChanged: self._ready_changed,
            Ended: self._ended,
            StopEnded: self._stop_ended,
            Extended: self._extended,
            GoalChanged: self._goal_changed,
            OperationChanged: self._operation_changed,
        }

    def __call__(self, reports: Sequence[Report], host: Host, _now: float) -> None:
        """Take the reports of one step."""
        for report in reports:
            tell = self._tellers.get(type(report))
            if tell is not None:
                tell(report, host)

    def _say(self, level: int, event: str, fields: Fields) -> None:
        if self._log.isEnabledFor(level):
            self._lines.say(level, self._log.name, event, fields)

    def _moved(self, report: Moved, _host: Host) -> None:
        level = logging.INFO
        if report.target in {Phase.STUCK, Phase.FAILED}:
            level = logging.ERROR
        elif report.target is Phase.BACKOFF or report.cause in _UNWELL:
            level = logging.WARNING
        self._say(
            level,
            "moved",
            {
                "instance": str(report.instance),
                "generation": report.generation,
                "from": report.source.value,
                "to": report.target.value,
                "cause": report.cause.value,
                "detail": report.detail,
                "stage": report.rung,
                "deadline_seconds": report.deadline_seconds,
                "request_id": report.request_id,
            },
        )

    def _climbed(self, report: Climbed, _host: Host) -> None:
        levels = {"stuck": logging.ERROR, "window-closed": logging.WARNING}
        # A closed settle window is the plan, not a failure to answer.
        planned = report.source == "settle" and report.outcome == "window-closed"
        self._say(
            logging.INFO if planned else levels.get(report.outcome, logging.INFO),
            "climbed",
            {
                "instance": str(report.instance),
                "generation": report.generation,
                "from": report.source,
                "to": report.target,
                "outcome": report.outcome,
                "seconds": report.seconds,
                "window_seconds": report.window_seconds,
                "request_id": report.request_id,
            },
        )

    def _ready_changed(self, report: ReadyChanged, host: Host) -> None:
        instance = host.instances.get(report.instance)
        whose = {"instance": str(report.instance), "generation": report.generation}
        if report.ready:
            # The first time in a generation is told by the move to running.
            if report.start_seconds is None:
                self._say(logging.INFO, "ready", whose)
        elif instance is not None and instance.phase is Phase.RUNNING:
            self._say(logging.WARNING, "unready", whose | {"reason": report.reason})

    def _ended(self, report: Ended, _host: Host) -> None:
        record = report.record
        fine = record.exit_class is ExitClass.CLEAN and not record.leftovers
        last = None if fine else next((line for line in reversed(record.last_lines) if line), None)
        self._say(
            logging.INFO if fine else logging.WARNING,
            "ended",
            {
                "instance": str(report.instance),
                "generation": record.generation,
                "class": record.exit_class.value,
                "detail": record.detail,
                "stage": record.rung,
                "uptime_seconds": record.uptime_seconds,
                "leftovers": record.leftovers or None,
                "last_line": last,
            },
        )

    def _stop_ended(self, report: StopEnded, _host: Host) -> None:
        levels = {"clean": logging.INFO, "stuck": logging.ERROR}
        self._say(
            levels.get(report.outcome, logging.WARNING),
            "stop-ended",
            {
                "instance": str(report.instance),
                "generation": report.generation,
                "outcome": report.outcome,
                "seconds": report.seconds,
            },
        )

    def _extended(self, report: Extended, _host: Host) -> None:
        self._say(
            logging.INFO,
            "extended",
            {
                "instance": str(report.instance),
                "generation": report.generation,
                "seconds": report.seconds,
            },
        )

    def _goal_changed(self, report: GoalChanged, _host: Host) -> None:
        self._say(
            logging.INFO,
            "goal-changed",
            {
                "target": str(report.scope),
                "goal": report.goal.value,
                "principal": report.principal,
                "request_id": report.request_id,
            },
        )

    def _operation_changed(self, report: OperationChanged, host: Host) -> None:
        operation = host.operations.get(report.operation)
        if operation is None:
            return
        if operation.id not in self._operations:
            self._operations[operation.id] = False
            self._operation_line(logging.INFO, "operation-started", operation)
        if operation.state.is_final and not self._operations[operation.id]:
            self._operations[operation.id] = True
            good = operation.state is OperationState.SUCCEEDED
            self._operation_line(logging.INFO if good else logging.WARNING, "operation-ended", operation)
            self._forget()

    def _operation_line(self, level: int, event: str, operation: Operation) -> None:
        over = event == "operation-ended"
        finished = operation.finished_at
        self._say(
            level,
            event,
            {
                "id": operation.id,
                "kind": operation.kind,
                "target": str(operation.scope),
                "outcome": operation.state.value if over else None,
                "seconds": finished - operation.started_at if over and finished is not None else None,
                "message": operation.message if over else None,
                "principal": operation.principal,
                "request_id": operation.request_id,
            },
        )

    def _forget(self) -> None:
        ended = [name for name, over in self._operations.items() if over]
        for name in ended[:-ENDED_OPERATIONS_KEPT]:
            del self._operations[name]
