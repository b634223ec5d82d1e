"""`pitbossd`: where the program begins, and where it begins anew as the daemon.

Decides which of the two this is. What a command does stands in `pitbossd_commands`, what a running daemon
is made of in `pitbossd_run`; neither has to load the other. See docs/decisions/0021-becoming-the-daemon.md.
"""

import sys
from collections.abc import Sequence

from supervisor.cli.pitbossd_imports import ask_for_no_plugins
from supervisor.cli.pitbossd_serve import handed_over, serve


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out a command, or go on with what was handed over. Ends with `SystemExit`."""
    descriptor = handed_over()
    if descriptor is None:
        ask_for_no_plugins()
        from supervisor.cli.pitbossd_commands import commands

        commands(arguments)
    else:
        sys.exit(serve(descriptor))


if __name__ == "__main__":
    main()
