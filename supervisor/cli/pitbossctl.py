"""`pitbossctl`: the command line of operators and deploy scripts.

Puts the verbs together; each verb that carries weight has its own file in `ctl`. It knows the daemon
only through `supervisor.client`, and imports what is slow to import when a verb needs it.
"""

import difflib
import os
import sys
import threading
from contextlib import suppress
from typing import Any

import click

from supervisor import __version__
from supervisor.cli.ctl.settings import shared_options

SECTIONS = {
    "Look": ("status", "explain", "wait", "operations", "version"),
    "Act": ("drain", "resume", "restart", "stop", "start", "signal", "shutdown"),
    "Set up": ("completion",),
}
"""The verbs by purpose, in the order of `--help`."""


def load(name: str) -> click.Command | None:
    """The verb of that name; only its own module is imported, because a command line must start at once."""
    command: click.Command | None = None
    match name:
        case "status":
            from supervisor.cli.ctl.status import status as command
        case "explain":
            from supervisor.cli.ctl.explain import explain as command
        case "wait":
            from supervisor.cli.ctl.wait import wait as command
        case "operations":
            from supervisor.cli.ctl.operations import operations as command
        case "version":
            from supervisor.cli.ctl.version import version as command
        case "shutdown":
            from supervisor.cli.ctl.shutdown import shutdown as command
        case "completion":
            from supervisor.cli.ctl.completion import completion as command
        case "drain" | "resume" | "restart" | "stop" | "start" | "signal":
            from supervisor.cli.ctl import verbs

            command = verbs.VERBS[name]
    return command


class Verbs(click.Group):
    """The group of all verbs: lists them by purpose, and suggests the nearest for a mistyped one."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Every verb, by purpose."""
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The verb of that name."""
        return load(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one was probably meant."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=2, cutoff=0.6)
            meant = f" Did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"there is no verb {name!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs by purpose."""
        for title, names in SECTIONS.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(name, verb.get_short_help_str(66)) for name, verb in found if verb])


@click.command(
    cls=Verbs,
    params=shared_options(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="pitbossctl %(version)s")
def cli() -> None:
    """Look at and steer the workers that pitbossd supervises.

    A TARGET is a pool (emails) or an instance (emails/2); --all is every pool. Verbs that change something
    wait until it is done and show how it goes; --no-wait only asks for it.

    The daemon is found by --socket or --url, by PITBOSS_SOCKET or PITBOSS_URL, or at the usual places:
    $XDG_RUNTIME_DIR/pitboss, /tmp/pitboss-UID, /run/pitboss.
    """


def main(**attributes: Any) -> None:
    """Run the command line; ends the process with the exit code."""
    try:
        cli.main(prog_name="pitbossctl", **attributes)
    except SystemExit as ended:
        _leave(ended)
        raise


def _leave(ended: SystemExit) -> None:
    """End at once if a long poll still hangs in a background thread.

    The interpreter does not wait for such threads, and one that wakes up while it is being taken down
    ends the process with a segmentation fault in place of the exit code.
    """
    if threading.active_count() == 1 or not isinstance(ended.code, int | None):
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(ended.code or 0)


if __name__ == "__main__":
    main()
