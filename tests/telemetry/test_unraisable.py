"""What Python cannot raise is a line of the log, and a signal that was overtaken is none."""

import json
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import signal, sys
from supervisor.telemetry.logs import configure
from supervisor.telemetry.unraisable import tell

lines = configure(form="json")
if sys.argv[1] == "told":
    sys.unraisablehook = tell

class Leaves:
    def __del__(self):
        raise ValueError("too late")

Leaves()
# Two signals at one moment: the handler of the first takes that of the second away.
signal.signal(signal.SIGHUP, lambda *_: signal.signal(signal.SIGCHLD, signal.SIG_DFL))
signal.signal(signal.SIGCHLD, lambda *_: None)
both = {signal.SIGHUP, signal.SIGCHLD}
signal.pthread_sigmask(signal.SIG_BLOCK, both)
for one in both:
    signal.raise_signal(one)
signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
"""


def said(how: str) -> str:
    """What the program writes to its standard error."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stderr


def test_python_says_what_we_expect() -> None:
    """Without us both are a traceback among the lines."""
    text = said("left alone")
    assert "ValueError: too late" in text
    assert f"OSError: Signal {signal.SIGCHLD:d} ignored due to race condition" in text


def test_what_cannot_be_raised_is_a_line() -> None:
    """An error in a destructor is told with its traceback; a SIGCHLD that was overtaken is nothing."""
    (line,) = said("told").splitlines()
    shown = json.loads(line)
    assert (shown["level"], shown["logger"]) == ("error", "supervisor.telemetry.unraisable")
    assert shown["message"].startswith("an error ")
    assert shown["message"].endswith(" could not be raised: it goes on without")
    assert "Leaves.__del__" in shown["message"]
    assert "ValueError: too late" in line
