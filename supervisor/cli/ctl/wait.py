"""`pitbossctl wait`: until pools or instances are ready, drained or stopped, whoever brings that about."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import click

from supervisor.cli.ctl.changes import Changes
from supervisor.cli.ctl.durations import age
from supervisor.cli.ctl.feed import Feed
from supervisor.cli.ctl.follow import Display, Ending, Picture, Silence, Told, follow, shown
from supervisor.cli.ctl.outcome import STEPS_SHOWN, standing_line
from supervisor.cli.ctl.progress import waiting_frame
from supervisor.cli.ctl.settings import (
    EXIT_INTERRUPTED,
    EXIT_REACHED,
    Settings,
    complain,
    print_json,
    settings,
    verb,
)
from supervisor.cli.ctl.targets import check_form, check_names, complete_targets, is_instance
from supervisor.cli.ctl.text import Line, Span, clean
from supervisor.cli.ctl.view import HostView, InstanceView, PoolView, host_view
from supervisor.client.errors import EXIT_NOT_REACHED, EXIT_UNREACHABLE

_UP_STATUSES = frozenset({"healthy", "completed"})


@dataclass(frozen=True, slots=True)
class Goal:
    """What is waited for, and for whom (no names: the whole host)."""

    word: str
    names: tuple[str, ...] = ()

    def pending(self, host: HostView) -> list[str]:
        """The names of the targets that are not there yet."""
        if not self.names:
            pools = [pool.name for pool in host.pools if not self._pool_is_there(pool)]
            return pools or ([host.name] if self.word == "ready" and not host.ready else [])
        instances = host.instances()
        waiting = []
        for name in self.names:
            if is_instance(name):
                there = name in instances and self._is_there(instances[name], host.pool(instances[name].pool))
            else:
                pool = host.pool(name)
                there = pool is not None and self._pool_is_there(pool)
            if not there:
                waiting.append(name)
        return waiting

    def instances(self, host: HostView) -> list[InstanceView]:
        """All instances that this is about."""
        return [one for pool in host.pools for one in pool.instances if self._concerns(one, pool)]

    def missing(self, host: HostView) -> list[InstanceView]:
        """The instances that are not there yet."""
        return [one for one in self.instances(host) if not self._is_there(one, host.pool(one.pool))]

    def dead_end(self, host: HostView) -> str | None:
        """Why it will not come about by itself: what has failed for good, or what an operator took down."""
        if self.word != "ready":
            return None
        for one in self.missing(host):
            pool = host.pool(one.pool)
            if one.phase == "failed":
                detail = f" ({one.last_exit.detail})" if one.last_exit else ""
                retry = f"pitbossctl restart --failed {one.name}"
                return f"{one.name} has failed for good{detail}; {retry} tries again"
            whole = pool is not None and pool.goal != "up"
            # A single instance that is away does not keep its pool from being ready.
            if one.goal != "up" and (whole or one.name in self.names):
                done = "drained" if one.goal == "drained" else "stopped"
                scope = one.pool if whole else one.name
                return f"an operator has {done} {scope}; pitbossctl resume {scope} brings it back"
        return None

    def _concerns(self, one: InstanceView, pool: PoolView) -> bool:
        if not self.names:
            return pool.critical or self.word != "ready"
        return one.name in self.names or one.pool in self.names

    def _pool_is_there(self, pool: PoolView) -> bool:
        if self.word == "ready":
            if not self.names and not pool.critical:
                return True
            return pool.goal == "up" and pool.status in _UP_STATUSES and pool.rollout is None
        return all(self._is_there(one, pool) for one in pool.instances)

    def _is_there(self, one: InstanceView, pool: PoolView | None) -> bool:
        if self.word == "ready":
            over = one.phase == "stopped" and pool is not None and pool.status in _UP_STATUSES
            return one.goal == "up" and (one.ready or over)
        if self.word == "drained":
            return one.phase == "stopped" and one.goal == "drained"
        return one.phase == "stopped" and one.goal != "up"


@verb(
    examples=(
        "pitbossctl wait --for ready --timeout 2m",
        "pitbossctl wait api --for ready && ./switch-traffic.sh",
        "pitbossctl drain emails --no-wait; pitbossctl wait emails --for drained",
    ),
    exit_codes=("every target is there", "it will not come about by itself, or not within --timeout"),
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=complete_targets)
@click.option(
    "--for",
    "word",
    type=click.Choice(["ready", "drained", "stopped"]),
    default="ready",
    show_default=True,
    help="What to wait for.",
)
def wait(targets: tuple[str, ...], word: str) -> None:
    """Wait until everything named is ready, drained or stopped. Nothing is changed.

    Without a target: the whole host; for ready that means its critical pools, as /readyz does.
    Ready is also what has run to completion; stopped is also what was drained.

    What has failed for good, or was taken down by an operator, does not become ready by itself: then the
    wait ends at once. Everything else is waited for without an end, unless --timeout gives one.
    """
    options = settings()
    check_form(targets)
    goal = Goal(word, tuple(dict.fromkeys(targets)))
    picture = Picture(time.monotonic())
    with options.client() as client:
        picture.host, picture.host_at = host_view(client.status()), time.monotonic()
        pinned = replace(options, socket=client.address.socket, url=client.address.url)
    check_names(goal.names, picture.host, "wait for")
    try:
        ending = _follow(goal, picture, pinned)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    raise click.exceptions.Exit(_tell(goal, picture, ending, options))


def _follow(goal: Goal, picture: Picture, options: Settings) -> Ending:
    screen = options.screen()

    def reached(now: Picture) -> bool:
        return now.host is not None and (not goal.pending(now.host) or goal.dead_end(now.host) is not None)

    def run(display: Display, *, moving: bool) -> Ending:
        return follow(
            Feed(options.client),
            picture,
            display,
            reached=reached,
            timeout_seconds=options.timeout_seconds,
            moving=moving,
        )

    def draw(now: Picture) -> list[Line]:
        if now.host is None:
            return []
        missing, everything = goal.missing(now.host), goal.instances(now.host)
        title = f"wait {' '.join(goal.names) or now.host.name} {screen.symbols.arrow} {goal.word}"
        return waiting_frame(now, screen, title, missing, len(everything) - len(missing), len(everything))

    if reached(picture):
        return Ending.REACHED
    if options.json:
        return run(Silence(), moving=False)
    if screen.is_terminal:
        with shown(screen, draw) as display:
            return run(display, moving=True)
    told = Told(Changes(frozenset(goal.names) or None).lines, screen)
    told.show(picture)
    return run(told, moving=False)


def _tell(goal: Goal, picture: Picture, ending: Ending, options: Settings) -> int:
    host = picture.host
    if host is None or ending is Ending.LOST:
        complain([f"cannot wait any longer: {clean(str(picture.lost).splitlines()[0])}"], options)
        return EXIT_UNREACHABLE
    pending = goal.pending(host)
    code = EXIT_NOT_REACHED if pending else EXIT_REACHED
    if options.json:
        document = {
            "for": goal.word,
            "reached": not pending,
            "pending": pending,
            "reason": goal.dead_end(host),
        }
        print_json(document, options)
        return code
    options.screen().say(_verdict(goal, host, pending, picture, options))
    return code


def _verdict(
    goal: Goal, host: HostView, pending: Sequence[str], picture: Picture, options: Settings
) -> list[Line]:
    symbols = options.screen().symbols
    if not pending:
        who = goal.names or (host.name,)
        return [
            (Span(f"{symbols.good} ", "green"), Span(name, "bold"), Span(f" {goal.word}")) for name in who
        ]
    reason = goal.dead_end(host)
    limit = "" if reason else f" after {age(options.timeout_seconds or 0)}"
    lines: list[Line] = [
        (Span(f"{symbols.bad} ", "red"), Span(name, "bold"), Span(f" not {goal.word}{limit}"))
        for name in pending
    ]
    missing = goal.missing(host)
    lines.extend(standing_line(one, picture.elapsed) for one in missing[:STEPS_SHOWN])
    if len(missing) > STEPS_SHOWN:
        lines.append((Span(f"  and {len(missing) - STEPS_SHOWN} more instances", "dim"),))
    if not missing:
        lines.extend((Span(f"  {text}"),) for text in host.reasons[:STEPS_SHOWN])
    if reason:
        lines.append((Span(f"  {reason}"),))
    return lines
