"""How it is said that there is no daemon. Why there is none is for others to know."""

import sys


def complain(*lines: str) -> None:
    """Write lines to standard error; in the journal they are errors."""
    from supervisor.telemetry.logs import goes_to_journal

    prefix = "<3>" if goes_to_journal(sys.stderr) else ""
    for line in lines:
        print(prefix + line, file=sys.stderr)
