"""What a respawn and a start cost, counted instead of timed: the same on a busy machine and on an idle one.

A count that grows is a cost that every user pays; raise a ceiling only with a reason in the change.
"""

import importlib.util
import marshal
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.benchmarks.life import Life, life
from tests.benchmarks.ours import PITBOSSD, Pitboss
from tests.waiting import eventually

RESPAWNS = 10
MOST_CALLS = 45
"""System calls of the daemon's thread from one SIGKILL to the replacement and back to sleep; 39 counted."""

LOOKING = {"openat", "read", "close", "newfstatat", "lseek", "getdents64", "readlink"}
"""Not counted: how much is looked at to find what is left of a tree depends on whether there are cgroups."""

MOST_MODULES = 600
"""Of `pitbossd run` by the time it is up, also before it has read the manifest; 576 counted."""

MOST_BYTES = 4_800_000
"""Of compiled code, in the modules of the daemon proper; 4 472 000 counted with CPython 3.11."""

NOT_FOR_THE_DAEMON = {"rich", "httpx", "httpcore", "prometheus_client", "psutil", "supervisor.client.client"}


@contextmanager
def traced(pid: int, path: Path) -> Iterator[None]:
    """Write down every system call of one thread; what it starts is not followed."""
    tracer = subprocess.Popen(
        ["strace", "--quiet=attach,exit", "-o", str(path), "-p", str(pid)], stderr=subprocess.PIPE
    )
    try:
        eventually(lambda: f"TracerPid:\t{tracer.pid}\n" in Path(f"/proc/{pid}/status").read_text())
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()


def kill_one(one: Life, place: int) -> None:
    """SIGKILL a worker, and wait for its replacement."""
    os.kill(one.workers[place], signal.SIGKILL)
    one.workers[place] = one.records.take(1, 30)[0].pid


@pytest.mark.skipif(
    not shutil.which("strace") and not os.environ.get("CI"), reason="needs the package strace"
)
def test_a_respawn_needs_few_system_calls(tmp_path: Path) -> None:
    """No call was added to what a replacement takes, whatever the machine is busy with."""
    path = tmp_path / "trace"
    with life(Pitboss(), 5, settle=0.1) as one:
        kill_one(one, 0)
        with traced(one.process.pid, path):
            for count in range(RESPAWNS):
                kill_one(one, count % 5)
            # The last call is always the wait for the next event, written when it is entered.
            eventually(lambda: path.read_text().endswith(", ") or "epoll_wait" in path.read_text()[-80:])
    calls = Counter(re.findall(r"^(\w+)\(", path.read_text(), re.MULTILINE))
    each = sum(count for name, count in calls.items() if name not in LOOKING) / RESPAWNS
    assert each <= MOST_CALLS, f"{each:.1f} calls a respawn: {calls.most_common()}"
    assert calls["vfork"] + calls["clone"] + calls["clone3"] >= RESPAWNS, calls


def code_bytes(module: str) -> int:
    """The size of its compiled code; 0 of one that is built in, or not Python."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return 0  # Somebody tried to import it.
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return 0
    source = Path(spec.origin).read_bytes()
    # Not the file in the cache: there may be none. And what others are warned of is theirs.
    with warnings.catch_warnings(action="ignore"):
        return len(marshal.dumps(compile(source, spec.origin, "exec", dont_inherit=True)))


def test_the_daemon_imports_what_it_needs(tmp_path: Path) -> None:
    """Nothing of the client, the command line's tables, or tests is loaded into a daemon that runs."""
    manifest = tmp_path / "pitboss.yaml"
    manifest.write_text(
        f"{{version: 1, state_directory: {tmp_path}/s, runtime_directory: {tmp_path}/r, pools: "
        "{idle: {command: ['true'], instances: 0}}}"
    )
    output = tmp_path / "imports"
    with output.open("wb") as stream:
        daemon = subprocess.Popen(
            [sys.executable, "-X", "importtime", str(PITBOSSD), "run", str(manifest)], stderr=stream
        )
    try:
        eventually(lambda: "runs" in output.read_text() and (tmp_path / "r/control.sock").exists())
    finally:
        daemon.terminate()
        daemon.wait(30)
    # It begins anew when it has read the manifest.
    _, first, second = output.read_text().split("imported package\n")
    reader, proper = (
        set(re.findall(r"^import time: .*\| +(\S+)$", text, re.MULTILINE)) for text in (first, second)
    )
    found = reader | proper
    assert not NOT_FOR_THE_DAEMON & found
    assert len(found) <= MOST_MODULES, f"{len(found)} modules"
    sizes = Counter({module: code_bytes(module) for module in proper})
    assert sizes.total() <= MOST_BYTES, f"{sizes.total()} bytes: {sizes.most_common(20)}"
