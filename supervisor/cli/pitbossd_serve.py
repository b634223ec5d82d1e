"""The program as the daemon: takes over what was read, and runs it.

Decides in which order a daemon is loaded, and how it says that there will be none.
"""

import signal
import sys
from contextlib import suppress

from supervisor.cli import pitbossd_handover
from supervisor.cli.pitbossd_complaints import complain
from supervisor.cli.pitbossd_handover import CannotHandOverError
from supervisor.cli.pitbossd_imports import keep_small


def serve(descriptor: int) -> int:
    """Run the daemon whose manifest is behind `descriptor`; the exit code."""
    # Under its own name where `ps` and systemd look, not under that of its interpreter.
    with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write("pitbossd")
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        what = pitbossd_handover.receive(descriptor)
        keep_small()
        from supervisor.cli.pitbossd_run import CannotStartError, run_daemon

        try:
            return run_daemon(what.manifest, what.log_format, what.log_level)
        except CannotStartError as error:
            complain(*(f"pitbossd: {line}" for line in error.reasons), "pitbossd: nothing was started.")
    except CannotHandOverError as error:
        complain(f"pitbossd: {error}", "pitbossd: nothing was started.")
    except KeyboardInterrupt:
        # Only while it is being loaded: the loop has a handler of its own.
        print("\nAborted!", file=sys.stderr)
    return 1
