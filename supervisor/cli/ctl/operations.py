"""`pitbossctl operations`: what was asked for, how far it is and how it ended; and steering a rollout."""

from datetime import UTC, datetime

import click
from click.shell_completion import CompletionItem

from supervisor.cli.ctl.durations import age
from supervisor.cli.ctl.outcome import lasted
from supervisor.cli.ctl.screen import Screen
from supervisor.cli.ctl.settings import EXIT_REACHED, Settings, print_json, settings, settings_of, verb
from supervisor.cli.ctl.targets import COMPLETION_SECONDS
from supervisor.cli.ctl.text import Line, Span, clip, pad, width
from supervisor.cli.ctl.view import OperationView, operation_view
from supervisor.cli.ctl.wishes import Asked, await_operations
from supervisor.client.errors import EXIT_NOT_REACHED

ACTIONS = ("show", "abort", "pause", "resume")
_TITLES = ("ID", "KIND", "TARGET", "STATE", "DONE", "AGE", "TOOK", "BY")
_STATE_STYLES = {
    "running": "cyan",
    "pending": "cyan",
    "paused": "yellow",
    "succeeded": "green",
    "failed": "red",
    "aborted": "yellow",
}
_STEP_STYLES = {"done": "green", "failed": "red", "aborted": "yellow", "running": "cyan", "waiting": "dim"}


def complete_operations(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Actions first, then the operations the daemon remembers; nothing if it is silent."""
    given = list(ctx.params.get("words") or ())
    items = [] if given else [CompletionItem(action) for action in ACTIONS if action.startswith(incomplete)]
    try:
        with settings_of(ctx).client(COMPLETION_SECONDS) as client:
            known = [operation_view(one) for one in client.operations().get("operations", [])]
    except Exception:  # noqa: BLE001 - whatever is wrong, a TAB must not print it
        return items
    found = [one for one in known if one.id.startswith(incomplete) and one.id not in given]
    return [*items, *(CompletionItem(one.id, help=f"{one.kind} {one.target}, {one.state}") for one in found)]


@verb(
    examples=(
        "pitbossctl operations",
        "pitbossctl operations 6f1c2a --wait",
        "pitbossctl operations pause 6f1c2a",
    ),
    exit_codes=(
        "it has succeeded or is on its way",
        "it has failed or was aborted, or not over within --timeout",
    ),
)
@click.argument(
    "words", nargs=-1, metavar="[show|abort|pause|resume] [ID]", shell_complete=complete_operations
)
@click.option("--wait", "follows", is_flag=True, help="Follow the operation until it is over.")
def operations(words: tuple[str, ...], follows: bool) -> None:
    """List operations, show one, or steer a rollout.

    Every wish that changes something is an operation with an id. Without an ID: the ones the daemon
    remembers, newest first. With an ID: its steps.

    pause begins no further replacement, resume goes on, abort leaves the pool as it is now; what is
    being replaced at that moment is finished first.
    """
    options = settings()
    action, identity = _parsed(words)
    if identity is None:
        if follows:
            raise click.UsageError("--wait needs the ID of an operation")
        _list(options)
        return
    with options.client(options.timeout_seconds if not follows else None) as client:
        steer = {
            "abort": client.abort_operation,
            "pause": client.pause_operation,
            "resume": client.resume_operation,
        }
        answer = dict(steer[action](identity) if action in steer else client.operation(identity))
    operation = operation_view(answer)
    if follows:
        target = None if operation.target == "host" else operation.target
        raise click.exceptions.Exit(await_operations(operation.kind, Asked({target: answer}, []), options))
    if options.json:
        print_json(answer, options)
    else:
        screen = options.screen()
        screen.lines(_details(operation))
    bad = operation.final and not operation.succeeded and action == "show"
    raise click.exceptions.Exit(EXIT_NOT_REACHED if bad else EXIT_REACHED)


def _parsed(words: tuple[str, ...]) -> tuple[str, str | None]:
    match words:
        case ():
            return "show", None
        case (action, identity) if action in ACTIONS:
            return action, identity
        case (word,) if word not in ACTIONS:
            return "show", word
        case (word,):
            raise click.UsageError(f"which operation? Expected: pitbossctl operations {word} ID")
        case _:
            raise click.UsageError("expected nothing, an ID, or one of show, abort, pause, resume and an ID")


def _list(options: Settings) -> None:
    with options.client(options.timeout_seconds) as client:
        answer = client.operations()
    if options.json:
        print_json(answer, options)
        return
    screen = options.screen()
    views = [operation_view(one) for one in answer.get("operations", [])]
    if not views:
        screen.say([(Span("no operations yet", "dim"),)] if screen.is_terminal else [])
        return
    rows = [_cells(one) for one in views]
    widths = [max(width(row[column]) for row in [_TITLES, *rows]) for column in range(len(_TITLES))]
    rest = screen.width - sum(widths) - 2 * (len(widths) - 1)
    for column in (-1, 2):
        taken = min(0, max(rest, 6 - widths[column]))
        widths[column] += taken
        rest -= taken
    lines: list[Line] = [tuple(_padded(_TITLES, widths, screen, "dim"))]
    lines.extend(tuple(_padded(row, widths, screen, "")) for row in rows)
    screen.lines(lines)


def _cells(one: OperationView) -> tuple[str, ...]:
    began = _moment(one.started_at)
    old = age((datetime.now(UTC) - began).total_seconds()) if began is not None else "-"
    took = lasted(one, 0.0) if one.finished_at else "-"
    return (
        one.id,
        one.kind,
        one.target,
        one.state,
        f"{one.done}/{one.total}",
        old,
        took,
        one.principal or "-",
    )


def _padded(cells: tuple[str, ...], widths: list[int], screen: Screen, style: str) -> list[Span]:
    spans = []
    for column, cell in enumerate(cells):
        shown = clip(cell, widths[column], screen.symbols.ellipsis)
        colour = _STATE_STYLES.get(cell, "") if column == 3 else ""
        gap = "  " if column < len(cells) - 1 else ""
        spans.append(Span(pad(shown, widths[column], right=column in {4, 5, 6}) + gap, style or colour))
    return spans


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _details(one: OperationView) -> list[Line]:
    began = _moment(one.started_at)
    waited = (datetime.now(UTC) - began).total_seconds() if began is not None else 0.0
    took = f"took {lasted(one, 0.0)}" if one.finished_at else f"for {age(waited)}"
    lines: list[Line] = [
        (
            Span(f"{one.kind} {one.target}", "bold"),
            Span("  "),
            Span(one.state, _STATE_STYLES.get(one.state, "")),
            Span(f"  {one.done}/{one.total} done, {took}"),
        )
    ]
    facts = {
        "id": one.id,
        "asked by": one.principal,
        "request": one.request_id,
        "started": one.started_at,
        "finished": one.finished_at,
        "message": one.message,
    }
    lines.extend((Span(f"  {name:9}", "dim"), Span(value)) for name, value in facts.items() if value)
    if one.steps:
        lines.append(())
        names = max(width(step.instance) for step in one.steps)
        lines.extend(
            (
                Span(f"  {pad(step.instance, names)}  "),
                Span(pad(step.state, 8), _STEP_STYLES.get(step.state, "")),
                Span(step.detail),
            )
            for step in one.steps
        )
    return lines
