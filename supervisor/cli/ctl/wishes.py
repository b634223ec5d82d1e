"""Carrying out a wish: ask for it, wait for it, and tell how it ended. Shared by every verb that acts.

Decides the order of things and the exit code; the wording is in `outcome`, the looks in `progress`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from supervisor.cli.ctl.durations import age
from supervisor.cli.ctl.settings import (
    EXIT_INTERRUPTED,
    EXIT_REACHED,
    Settings,
    complain,
    error_json,
    error_lines,
    print_json,
)
from supervisor.cli.ctl.targets import check_names, pool_of, with_nearest
from supervisor.cli.ctl.text import Line, Span, clean
from supervisor.cli.ctl.view import OperationView, host_view, operation_view
from supervisor.client.errors import EXIT_NOT_REACHED, EXIT_UNREACHABLE, ClientError

if TYPE_CHECKING:
    from supervisor.cli.ctl.follow import Ending, Picture
    from supervisor.client.client import Client
    from supervisor.client.shapes import Operation

Ask = Callable[["Client", str | None], "Operation"]
"""Sends one wish for one target (None: the host)."""


@dataclass(slots=True)
class Asked:
    """What became of the asking: the operations by target, and the refusals."""

    operations: dict[str | None, dict[str, Any]]
    refusals: list[ClientError]


def carry_out(
    verb: str, targets: Sequence[str | None], ask: Ask, options: Settings, *, wait: bool = True
) -> None:
    """Ask for `verb` on every target, wait for all, and end with the exit code.

    With several targets the names are checked first: a mistyped one means that nothing is done.
    """
    with options.client() as client:
        if len(targets) > 1:
            check_names(targets, host_view(client.status()), verb)
        asked = _ask_all(client, verb, targets, ask, options)
        pinned = replace(options, socket=client.address.socket, url=client.address.url)
    if not wait:
        _print_accepted(asked, options)
        raise click.exceptions.Exit(_worst(asked.refusals))
    code = await_operations(verb, asked, pinned) if asked.operations else EXIT_REACHED
    raise click.exceptions.Exit(_worst(asked.refusals) or code)


def _ask_all(
    client: "Client", verb: str, targets: Sequence[str | None], ask: Ask, options: Settings
) -> Asked:
    asked = Asked({}, [])
    for target in targets:
        try:
            answer = dict(ask(client, target))
        except ClientError as error:
            failure = with_nearest(error, target, verb, options)
            if len(targets) == 1:
                raise failure from error
            asked.refusals.append(failure)
            if not options.json:
                complain(error_lines(failure), options)
            continue
        asked.operations[target] = answer
        warning = clean(answer.get("warning"))
        if warning and not options.json:
            complain([f"warning: {warning}"], options)
    return asked


def _worst(refusals: Sequence[ClientError]) -> int:
    return max((refusal.exit_code for refusal in refusals), default=EXIT_REACHED)


def _print_accepted(asked: Asked, options: Settings) -> None:
    if options.json:
        _print_operations(list(asked.operations.values()), asked.refusals, options)
        return
    screen = options.screen()
    screen.say([(Span(operation_view(answer).id),) for answer in asked.operations.values()])


def _print_operations(
    answers: Sequence[dict[str, Any]], refusals: Sequence[ClientError], options: Settings
) -> None:
    if len(answers) == 1 and not refusals:
        print_json(answers[0], options)
        return
    document: dict[str, Any] = {"operations": list(answers)}
    if refusals:
        document["errors"] = [error_json(refusal) for refusal in refusals]
    print_json(document, options)


def await_operations(verb: str, asked: Asked, options: Settings, *, lost_is_end: bool = False) -> int:
    """Follow operations until all are final; prints how each ended and returns the exit code."""
    from supervisor.cli.ctl.feed import Feed
    from supervisor.cli.ctl.follow import LOST_SECONDS, Ending, Picture

    views = {target: operation_view(answer) for target, answer in asked.operations.items()}
    picture = Picture(time.monotonic())
    for view, answer in zip(views.values(), asked.operations.values(), strict=True):
        picture.operations[view.id] = view
        picture.answers[view.id] = answer
    ids = [view.id for view in views.values()]
    pools = {pool_of(target) for target in asked.operations if target is not None}
    only = next(iter(pools)) if len(pools) == 1 and None not in asked.operations else None
    unfinished = [view.id for view in views.values() if not view.final]
    feed = Feed(options.client, pool=only, operations=unfinished)
    try:
        ending = Ending.REACHED
        if unfinished:
            ending = _follow(feed, picture, ids, options, 1.0 if lost_is_end else LOST_SECONDS)
    except KeyboardInterrupt:
        _tell_interrupted(picture, ids, options)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    if options.json:
        _print_operations([picture.answers[name] for name in ids], asked.refusals, options)
    if lost_is_end and ending is Ending.LOST:
        return _tell_gone(picture, options)
    return _tell_ending(
        verb, list(views), [picture.operations[name] for name in ids], ending, picture, options
    )


def _follow(
    feed: Any, picture: "Picture", ids: Sequence[str], options: Settings, lost_seconds: float
) -> "Ending":
    from supervisor.cli.ctl.changes import Changes
    from supervisor.cli.ctl.follow import Display, Silence, Told, follow, shown
    from supervisor.cli.ctl.progress import operation_frame

    screen = options.screen()

    def run(display: Display, *, moving: bool) -> "Ending":
        return follow(
            feed,
            picture,
            display,
            reached=lambda now: all(now.operations[name].final for name in ids),
            timeout_seconds=options.timeout_seconds,
            moving=moving,
            lost_seconds=lost_seconds,
        )

    if options.json:
        return run(Silence(), moving=False)
    if screen.is_terminal:
        with shown(screen, lambda now: operation_frame(now, screen, ids)) as display:
            return run(display, moving=True)
    steps = {step.instance for operation in picture.operations.values() for step in operation.steps}
    targets = {operation.target for operation in picture.operations.values()}
    names = None if "host" in targets else frozenset(steps | targets)
    display = Told(Changes(names).lines, screen)
    display.show(picture)
    return run(display, moving=False)


def _tell_ending(
    verb: str,
    targets: Sequence[str | None],
    operations: Sequence[OperationView],
    ending: "Ending",
    picture: "Picture",
    options: Settings,
) -> int:
    from supervisor.cli.ctl.follow import Ending
    from supervisor.cli.ctl.outcome import comeback_line, outcome_lines, unfinished_lines

    code = EXIT_REACHED if all(operation.succeeded for operation in operations) else EXIT_NOT_REACHED
    if ending is Ending.LOST:
        complain(_lost(picture), options)
        return EXIT_UNREACHABLE
    if options.json:
        return code
    screen = options.screen()
    lines: list[Line] = []
    limit = f"after {age(options.timeout_seconds or 0)}"
    for operation in operations:
        if operation.final:
            lines.extend(outcome_lines(operation, picture, screen))
        else:
            lines.extend(unfinished_lines(operation, picture, screen, limit))
    done = [target for target, one in zip(targets, operations, strict=True) if one.succeeded]
    comeback = comeback_line(verb, done) if done else None
    screen.say([*lines, *([comeback] if comeback is not None else [])])
    return code


def _lost(picture: "Picture") -> list[str]:
    reason = str(picture.lost).splitlines()[0] if picture.lost is not None else "it does not answer"
    return [
        f"cannot follow the operation any further: {clean(reason)}",
        "What was asked for is kept by the daemon; look at pitbossctl status when it is back.",
    ]


def _tell_gone(picture: "Picture", options: Settings) -> int:
    """The daemon has ended, as it was asked to."""
    from supervisor.cli.ctl.durations import took

    instances = list(picture.host.instances().values()) if picture.host is not None else []
    left_over = [one for one in instances if one.phase == "stuck"]
    if options.json:
        return EXIT_NOT_REACHED if left_over else EXIT_REACHED
    screen = options.screen()
    name = picture.host.name if picture.host is not None else "the host"
    line: Line = (
        Span(f"{screen.symbols.good} ", "green"),
        Span(name, "bold"),
        Span(f" is down: pitbossd has ended after {took(picture.waited)}"),
    )
    if left_over:
        line = (
            Span(f"{screen.symbols.bad} ", "red"),
            Span(name, "bold"),
            Span(f" is down, but {', '.join(one.name for one in left_over[:5])} outlived SIGKILL"),
        )
    screen.say([line])
    return EXIT_NOT_REACHED if left_over else EXIT_REACHED


def _tell_interrupted(picture: "Picture", ids: Sequence[str], options: Settings) -> None:
    for operation in (picture.operations[name] for name in ids):
        if not operation.final:
            progress = f"{operation.done} of {operation.total} done"
            complain(
                [
                    f"{operation.kind} {operation.target} goes on, {progress}",
                    f"  follow it again: pitbossctl operations {operation.id} --wait",
                ],
                options,
            )
