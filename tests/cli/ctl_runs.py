"""Ways to run `pitbossctl` in a test: inside this process with its output as in a pipe, or as a command."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner, Result

from supervisor.cli.pitbossctl import cli
from tests.cli.stub_daemon import Stub

ROOT = Path(__file__).resolve().parents[2]
# Ctrl-C reaches a command only through the terminal that its session owns.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, '-m', 'supervisor.cli.pitbossctl', *sys.argv[1:]])"
)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def ctl(stub: Stub | None, *arguments: str, columns: int = 80, **environ: str) -> Result:
    """Run it in this process; its output is a pipe."""
    place = {"PITBOSS_SOCKET": stub.socket} if stub is not None else {}
    return CliRunner().invoke(
        cli, arguments, prog_name="pitbossctl", env={"COLUMNS": str(columns), **place, **environ}
    )


def command(stub: Stub, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    """Run it as a command of its own, with pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "supervisor.cli.pitbossctl", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PITBOSS_SOCKET": stub.socket, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@dataclass
class OnTerminal:
    """What a command wrote to its terminal, and how it ended."""

    output: str
    exit_code: int

    @property
    def text(self) -> str:
        """The output without escape sequences."""
        return ESCAPES.sub("", self.output).replace("\r\n", "\n")


def on_terminal(
    stub: Stub,
    *arguments: str,
    columns: int = 80,
    rows: int = 30,
    press: tuple[str, bytes] | None = None,
    **environ: str,
) -> OnTerminal:
    """Run it on a terminal of its own; `press` types bytes once a text has been shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    inherited = {
        key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES", "NO_COLOR"}
    }
    process = subprocess.Popen(
        [sys.executable, "-c", _TAKE_TERMINAL, *arguments],
        cwd=ROOT,
        env={
            **inherited,
            "PYTHONPATH": str(ROOT),
            "PITBOSS_SOCKET": stub.socket,
            "TERM": "xterm-256color",
            "LC_ALL": "C.UTF-8",
            **environ,
        },
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    output = b""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if select.select([ours], [], [], 1.0)[0]:
            try:
                chunk = os.read(ours, 65536)
            except OSError:
                break
            if not chunk:
                break
            output += chunk
            if press is not None and press[0].encode() in output:
                os.write(ours, press[1])
                press = None
    os.close(ours)
    return OnTerminal(output.decode("utf-8", "replace"), process.wait(60))
