"""`status --watch`: the table of `status`, kept up to date until Ctrl-C."""

import time

import click

from supervisor.cli.ctl.changes import Changes
from supervisor.cli.ctl.feed import Feed
from supervisor.cli.ctl.follow import Display, Ending, Picture, Told, follow, shown
from supervisor.cli.ctl.settings import EXIT_REACHED, Settings, complain
from supervisor.cli.ctl.table import Selection, status_lines
from supervisor.cli.ctl.targets import check_names
from supervisor.cli.ctl.text import Line, Span, clean
from supervisor.cli.ctl.view import host_view
from supervisor.client.errors import EXIT_NOT_REACHED, EXIT_UNREACHABLE


def watch_status(options: Settings, targets: tuple[str, ...], *, expanded: bool) -> None:
    """Show the status until Ctrl-C, which is the way to end it (exit 0), or until `--timeout`.

    In a pipe: the table once, then a line for each change.
    """
    if options.json:
        raise click.UsageError("--watch shows a table; for a script, read pitbossctl status --json")
    screen = options.screen()
    selection = Selection(frozenset(targets), expanded)
    picture = Picture(time.monotonic())
    with options.client() as client:
        host = host_view(client.status())
        check_names(targets, host, "watch")
    picture.host, picture.host_at = host, time.monotonic()

    def draw(now: Picture) -> list[Line]:
        lines = status_lines(now.host or host, screen, selection, now.elapsed)
        if now.lost is not None:
            text = f"{screen.symbols.warn} pitbossd does not answer; this is how it was, trying again"
            lines = [(Span(text, "bold yellow"),), *lines]
        return lines

    def run(display: Display, *, moving: bool) -> Ending:
        return follow(
            Feed(options.client),
            picture,
            display,
            reached=lambda _: False,
            timeout_seconds=options.timeout_seconds,
            moving=moving,
            lost_seconds=float("inf") if moving else 20.0,
        )

    ending = Ending.REACHED
    try:
        if screen.is_terminal:
            with shown(screen, draw, alternate=True) as display:
                ending = run(display, moving=True)
        else:
            screen.lines(draw(picture))
            names = frozenset(targets) or None
            changes = Changes(names)
            changes.lines(picture)
            ending = run(Told(changes.lines, screen), moving=False)
    except KeyboardInterrupt:
        ending = Ending.REACHED
    if screen.is_terminal:
        screen.lines(draw(picture))
    if ending is Ending.LOST:
        complain([f"cannot watch any further: {clean(str(picture.lost).splitlines()[0])}"], options)
        raise click.exceptions.Exit(EXIT_UNREACHABLE)
    settled = picture.host is not None and picture.host.settled
    raise click.exceptions.Exit(EXIT_REACHED if ending is Ending.REACHED or settled else EXIT_NOT_REACHED)
