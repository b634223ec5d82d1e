"""`pitbossctl shutdown`: the end of the host, in order and within its deadline."""

import time
from contextlib import suppress
from dataclasses import replace

import click

from supervisor.cli.ctl.durations import duration
from supervisor.cli.ctl.feed import PAUSE_SECONDS
from supervisor.cli.ctl.settings import EXIT_REACHED, Settings, print_json, settings, verb
from supervisor.cli.ctl.text import Span, clean
from supervisor.cli.ctl.verbs import no_wait_option, urgency_of, urgency_options
from supervisor.cli.ctl.wishes import Asked, await_operations
from supervisor.client.errors import ClientError

SILENCE_SECONDS = 10.0
"""How long a daemon whose workers are gone may take to write its journal and end."""


@verb(
    examples=("pitbossctl shutdown", "pitbossctl shutdown --deadline 2m", "pitbossctl shutdown --now"),
    exit_codes=(
        "everything is down and pitbossd has ended",
        "something outlived SIGKILL, or not within --timeout",
    ),
)
@urgency_options
@click.option(
    "--deadline",
    type=duration,
    metavar="DURATION",
    help="Everything must be down by then; the windows are scaled to fit. Default: the manifest's.",
)
@no_wait_option
def shutdown(now: bool, kill: bool, deadline: float | None, no_wait: bool) -> None:
    """Stop every pool in order, and end pitbossd.

    All pools are told to drain at once; then dependents go before what they depend on. Asking again only
    ever speeds up. Under systemd, systemctl stop pitbossd does the same and keeps systemd informed; after
    this command, the unit's Restart= decides whether pitbossd comes back.
    """
    options = settings()
    with options.client() as client:
        answer = dict(client.shutdown(urgency=urgency_of(now, kill), deadline_seconds=deadline))
        pinned = replace(options, socket=client.address.socket, url=client.address.url)
    if no_wait:
        if options.json:
            print_json(answer, options)
        else:
            options.screen().say([(Span(clean(answer.get("id"))),)])
        raise click.exceptions.Exit(EXIT_REACHED)
    code = await_operations("shutdown", Asked({None: answer}, []), pinned, lost_is_end=True)
    if code == EXIT_REACHED:
        _await_silence(pinned)
    raise click.exceptions.Exit(code)


def _await_silence(options: Settings) -> None:
    """Wait until the daemon hangs up, so that the next command may start another one at the same place."""
    until = time.monotonic() + SILENCE_SECONDS
    revision: int | None = None
    # Any failure means that it answers no more.
    with suppress(ClientError), options.client(SILENCE_SECONDS) as client:
        while (left := until - time.monotonic()) > 0:
            answer = client.status(after=revision, wait_seconds=0 if revision is None else left)
            revision = answer.get("revision", 0)
            # It answers at once while it still changes: not to be asked at full speed.
            time.sleep(PAUSE_SECONDS)
