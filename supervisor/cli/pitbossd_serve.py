"""The program as the daemon: takes over what was read, and runs it.

Decides in which order a daemon is loaded, and how it says that there will be none.
"""

import signal
import sys
from contextlib import suppress

from supervisor.cli.pitbossd_complaints import complain
from supervisor.cli.pitbossd_imports import keep_small

OPTION = "pitbossd"
"""The `-X` option of the interpreter that names the memfd. Python leaves unknown ones to the program. It is
neither among the arguments of the operator nor in an environment that somebody could inherit."""


def handed_over() -> int | None:
    """The descriptor that was handed over, or None where the program begins."""
    number = str(sys._xoptions.get(OPTION, ""))  # noqa: SLF001  # documented: sys._xoptions
    return int(number) if number.isascii() and number.isdigit() else None


def serve(descriptor: int) -> int:
    """Run the daemon whose manifest is behind `descriptor`; the exit code."""
    # Under its own name where `ps` and systemd look, not under that of its interpreter.
    with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write("pitbossd")
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        keep_small()
        return _run(descriptor)
    except KeyboardInterrupt:
        # Only while it is being loaded: the loop has a handler of its own.
        print("\nAborted!", file=sys.stderr)
        return 1


def _run(descriptor: int) -> int:
    from supervisor.cli.pitbossd_handover import CannotHandOverError, receive

    try:
        what = receive(descriptor)
    except CannotHandOverError as error:
        return _refuse(str(error))

    from supervisor.cli.pitbossd_run import CannotStartError, run_daemon

    try:
        return run_daemon(what.manifest, what.log_format, what.log_level)
    except CannotStartError as error:
        return _refuse(*error.reasons)


def _refuse(*reasons: str) -> int:
    complain(*(f"pitbossd: {line}" for line in reasons), "pitbossd: nothing was started.")
    return 1
