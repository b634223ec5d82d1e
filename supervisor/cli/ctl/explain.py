"""`pitbossctl explain`: why is it where it is, what happens next, and what can be done about it.

Puts the facts of the status into sentences. The rules behind them are the daemon's; where a sentence
says what will happen, it is what the life cycle of DESIGN promises for that phase and goal.
"""

from collections.abc import Iterable

import click

from supervisor.cli.ctl.durations import age, left
from supervisor.cli.ctl.narrative import next_for_instance, next_for_pool, ways_for_instance, ways_for_pool
from supervisor.cli.ctl.notes import SIGNS, STYLES
from supervisor.cli.ctl.screen import Screen
from supervisor.cli.ctl.settings import EXIT_REACHED, print_json, settings, verb
from supervisor.cli.ctl.table import instance_row, table
from supervisor.cli.ctl.targets import check_names, chosen, is_instance, pool_of, target_arguments
from supervisor.cli.ctl.text import Line, Span, pad, width, wrap
from supervisor.cli.ctl.view import ExitView, HostView, InstanceView, PoolView, host_view

LINES_SHOWN = 20
INSTANCES_SHOWN = 10
REASONS_SHOWN = 5
_LABEL_CELLS = 13


@verb(
    examples=("pitbossctl explain emails/2", "pitbossctl explain emails", "pitbossctl explain --all"),
    exit_codes=("it was explained, whatever the state",),
)
@target_arguments
def explain(targets: tuple[str, ...], everything: bool) -> None:
    """Say why something is where it is, and what can be done.

    For an instance: its goal and phase, since when and until when, the rung of the stop ladder, what it
    waits for, how it ended last and its last lines of output; what happens next; which commands help.
    For a pool: its reasons, its dependencies, its rollout, and the instances that are not well.
    """
    options = settings()
    wanted = chosen(targets, everything, options)
    with options.client(options.timeout_seconds) as client:
        answer = client.status()
    host = host_view(answer)
    check_names(wanted, host, "explain")
    names = [pool.name for pool in host.pools] if wanted == [None] else [str(name) for name in wanted]
    screen = options.screen()
    explained = [_explained(name, host, screen) for name in names]
    if options.json:
        documents = [_document(name, host) for name in names]
        print_json(documents[0] if len(documents) == 1 else documents, options)
    else:
        for index, lines in enumerate(explained):
            screen.lines([*([()] if index else []), *lines])
    raise click.exceptions.Exit(EXIT_REACHED)


def _explained(name: str, host: HostView, screen: Screen) -> list[Line]:
    pool = host.pool(pool_of(name))
    if pool is None:
        return []
    if is_instance(name):
        return _instance(host.instances()[name], pool, host, screen)
    return _pool(pool, host, screen)


def _document(name: str, host: HostView) -> dict[str, object]:
    pool = host.pool(pool_of(name))
    if pool is None:
        return {"target": name}
    if is_instance(name):
        one = host.instances()[name]
        steps, ways = next_for_instance(one, pool), ways_for_instance(one, pool)
        state = {"phase": one.phase, "goal": one.goal, "ready": one.ready, "stage": one.stage or None}
    else:
        steps, ways = next_for_pool(pool), ways_for_pool(pool)
        state = {"status": pool.status, "goal": pool.goal, "reasons": list(pool.reasons)}
    commands = [{"command": command, "effect": effect} for command, effect in ways]
    return {"target": name, **state, "next": steps, "commands": commands}


def _instance(one: InstanceView, pool: PoolView, host: HostView, screen: Screen) -> list[Line]:
    lines: list[Line] = [_title(one.name, one.word, _headline(one), screen), ()]
    until = f", until {left(one.deadline)} from now at the latest" if one.deadline is not None else ""
    lines += _fact("goal", one.goal, screen)
    lines += _fact("phase", f"{one.phase} for {age(one.since)}{until}", screen)
    if one.stage:
        target = {"main": " to the main process", "all": " to the whole tree"}.get(one.stage_target, "")
        sent = f", {one.stage_signal}{target}" if one.stage_signal else ""
        since = f" for {age(one.stage_since)}" if one.stage_since is not None else ""
        limit = f", {left(one.deadline)} left" if one.deadline is not None else ", no bound of its own"
        lines += _fact("rung", f"{one.stage}{since}{limit}{sent}", screen)
    lines += _fact("waiting for", one.waiting_for, screen)
    lines += _fact(
        "ready", "yes" if one.ready else f"no: {one.unready_reason}" if one.unready_reason else "no", screen
    )
    process = f"pid {one.pid}" if one.pid is not None else "none"
    up = f", up {age(one.uptime)}" if one.pid is not None and one.uptime is not None else ""
    restarts = (
        f", {one.restarts} restarts, {one.failures} failures in a row" if one.restarts or one.failures else ""
    )
    lines += _fact("process", f"{process}{up}, generation {one.generation}{restarts}", screen)
    work = [f"{one.in_flight} in flight"] if one.in_flight is not None else []
    work += [f"{one.queue_depth} queued"] if one.queue_depth is not None else []
    lines += _fact("work", ", ".join(work), screen)
    lines += _fact("it says", one.status_text, screen)
    if one.last_exit is not None:
        lines += _last_exit(one.last_exit, screen)
    lines += _dependencies(pool, host, screen) if one.phase == "pending" else []
    return lines + _next_and_ways(next_for_instance(one, pool), ways_for_instance(one, pool), screen)


def _headline(one: InstanceView) -> str:
    if one.at_goal:
        return "where it should be"
    return {"up": "not up yet", "down": "on its way down", "drained": "on its way to drained"}.get(
        one.goal, ""
    )


def _last_exit(last: ExitView, screen: Screen) -> list[Line]:
    ran = f" after running for {age(last.uptime)}" if last.uptime is not None else ""
    what = f"{last.exit_class}, generation {last.generation}"
    ended = f"{last.detail or 'unknown'}, {age(last.ago)} ago{ran} ({what})"
    lines = _fact("last exit", ended, screen)
    if last.rung:
        lines += _fact("", f"ended by the stop, on the rung {last.rung}", screen)
    if last.leftovers:
        lines += _fact("", f"it left {last.leftovers} processes behind; they were swept", screen)
    label = "last output"
    for text in last.last_lines[-LINES_SHOWN:]:
        bar = "|" if not screen.symbols.ellipsis.startswith("…") else "│"
        lines.append((Span(f"  {pad(label, _LABEL_CELLS)}", "dim"), Span(f"{bar} ", "dim"), Span(text)))
        label = ""
    return lines


def _pool(pool: PoolView, host: HostView, screen: Screen) -> list[Line]:
    headline = (
        f"{pool.ready} of {pool.wanted} ready" if pool.goal == "up" else f"{len(pool.instances)} instances"
    )
    lines: list[Line] = [_title(pool.name, pool.status, headline, screen), ()]
    lines += _fact("goal", pool.goal, screen)
    kind = pool.kind + ("" if pool.critical else ", not critical: its trouble does not make the host unready")
    lines += _fact("kind", kind, screen)
    if pool.rollout is not None:
        now = f", now {', '.join(pool.rollout.turns)}" if pool.rollout.turns else ""
        rollout = (
            f"{pool.rollout.state}, {pool.rollout.waiting} to go{now} (operation {pool.rollout.operation})"
        )
        lines += _fact("rollout", rollout, screen)
    lines += _dependencies(pool, host, screen)
    for number, (name, listen) in enumerate(pool.sockets):
        lines += _fact("" if number else "listens on", f"{listen} ({name})", screen)
    label = "reasons"
    for reason in pool.reasons[:REASONS_SHOWN]:
        lines += _fact(label, reason, screen)
        label = ""
    troubled = [one for one in pool.instances if not one.at_goal]
    if troubled:
        rows = [instance_row(one, screen) for one in troubled[:INSTANCES_SHOWN]]
        lines += [(), *table(rows, screen)]
        if len(troubled) > INSTANCES_SHOWN:
            lines.append((Span(f"and {len(troubled) - INSTANCES_SHOWN} more", "dim"),))
    return lines + _next_and_ways(next_for_pool(pool), ways_for_pool(pool), screen)


def _dependencies(pool: PoolView, host: HostView, screen: Screen) -> list[Line]:
    lines: list[Line] = []
    label = "depends on"
    for name, condition in pool.depends_on:
        other = host.pool(name)
        status = f"{other.status}, {other.ready}/{other.wanted} ready" if other is not None else "unknown"
        lines += _fact(label, f"{name} to be {condition}; it is {status}", screen)
        label = ""
    return lines


def _title(name: str, word: str, headline: str, screen: Screen) -> Line:
    sign = getattr(screen.symbols, SIGNS.get(word, "dot"))
    style = STYLES.get(word, "")
    return (
        Span(f"{sign} ", style),
        Span(name, "bold"),
        Span(" is in " if word == "backoff" else " is "),
        Span(word, style),
        Span(f", {headline}" if headline else ""),
    )


def _fact(label: str, value: str, screen: Screen) -> list[Line]:
    if not value:
        return []
    lines: list[Line] = []
    for part in wrap(value, max(20, screen.width - _LABEL_CELLS - 2)):
        lines.append((Span(f"  {pad(label, _LABEL_CELLS)}", "dim"), Span(part)))
        label = ""
    return lines


def _next_and_ways(steps: Iterable[str], ways: list[tuple[str, str]], screen: Screen) -> list[Line]:
    lines: list[Line] = [(), (Span("What happens next", "bold"),)]
    for step in steps:
        lines.extend((Span(f"  {part}"),) for part in wrap(step, screen.width - 2))
    if ways:
        cells = max(width(command) for command, _ in ways)
        lines += [(), (Span("What you can do", "bold"),)]
        for command, effect in ways:
            lead = pad(command, cells)
            for part in wrap(effect, max(20, screen.width - cells - 4)):
                lines.append((Span(f"  {lead}  ", "cyan"), Span(part)))
                lead = " " * cells
    return lines
