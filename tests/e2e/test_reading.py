"""The manifest is read in a child: what it needed is gone from the daemon, and its troubles are told."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.commands import pool, worker
from tests.e2e.daemon import BIN, Daemon
from tests.proc import children_of, descriptor_targets, is_alive
from tests.waiting import eventually

Make = Callable[..., Daemon]
Begin = Callable[[str], subprocess.Popen[str]]

STRANGERS = {"pydantic", "pydantic_core", "yaml", "_yaml", "rich", "httpx", "psutil", "prometheus_client"}

UNUSED = {
    *(
        "_ssl",
        "_hashlib",
        "asyncio.sslproto",
        "http.client",
        "email.message",
        "configparser",
        "multiprocessing",
    ),
    *("logging.config", "uvicorn.main", "uvicorn.supervisors", "supervisor.control.openapi"),
}
"""What the libraries of a daemon would import, and it does not use: 5 MiB."""

MOST_MODULES = 380
"""Some 370 today. Each costs 20 KiB or so for as long as the daemon lives; raise it for a reason."""

MODULES = """
import sys
from supervisor.cli import pitbossd, pitbossd_read
read = pitbossd_read.Reading.manifest
def manifest(reading):
    name = read(reading).name
    # What stands in for a module until somebody looks into it is not that module.
    print(name, *(name for name, one in sys.modules.items() if one and type(one).__name__ != "_Late"))
    sys.exit(0)
pitbossd_read.Reading.manifest = manifest
pitbossd.main(["run", sys.argv[1]])
"""

# Reads its manifest for ever: a loader that waits stands in for a large file on a dead disk.
WAITS = """
import os, signal, sys
from pathlib import Path
import supervisor.manifest.load as load
from supervisor.cli import pitbossd
def wait(path):
    print(os.getpid(), flush=True)
    signal.pause()
load.load = wait
pitbossd.main(["run", sys.argv[1]])
"""


@pytest.fixture
def one(daemon: Make) -> Daemon:
    """A daemon that was not started, with a manifest that is good."""
    return daemon({"name": "shop", "pools": {"web": pool(worker("obedient"))}}, start=False)


@pytest.fixture
def python(one: Daemon) -> Iterator[Begin]:
    """`pitbossd run` with something of it replaced by a script; what is left of it is ended afterwards."""
    begun: list[subprocess.Popen[str]] = []

    def begin(script: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(one.manifest_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=one.directory,
            process_group=0,
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


def test_a_daemon_imports_nothing_that_it_does_not_use(python: Begin) -> None:
    """Neither YAML nor pydantic, nor what clients and tests use, is among the modules of a daemon."""
    done = python(MODULES)
    shown, said = done.communicate(timeout=60)
    assert done.returncode == 0, said
    name, *modules = shown.split()
    assert name == "shop"
    assert "supervisor.manifest.loaded" in modules
    assert {module.partition(".")[0] for module in modules} & STRANGERS == set()
    assert {"supervisor.manifest.load", "supervisor.manifest.model"} & set(modules) == set()
    assert UNUSED & set(modules) == set()
    assert len(modules) <= MOST_MODULES


def test_a_running_daemon_carries_no_model(daemon: Make) -> None:
    """No library of pydantic or YAML is mapped; its children are its workers, and no pipe is left."""
    running = daemon({"pools": {"web": pool(worker("obedient"))}})
    running.wait_ready()
    mapped = Path(f"/proc/{running.pid}/maps").read_text()
    assert "httptools" in mapped
    unused = ("pydantic", "yaml", "libssl", "libcrypto")
    assert [line for line in mapped.splitlines() if any(word in line.lower() for word in unused)] == []
    assert children_of(running.pid) == [running.instance("web/0")["pid"]]
    # Standard input, output and error aside, all pipes are those of a worker: one, read by the daemon.
    targets = descriptor_targets(running.pid).items()
    assert len([target for number, target in targets if number > 2 and target.startswith("pipe:")]) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
def test_a_signal_while_the_manifest_is_read_ends_both(
    one: Daemon, python: Begin, number: signal.Signals
) -> None:
    """Whatever ends the daemon ends who reads for it, and nothing was started."""
    done = python(WAITS)
    assert done.stdout is not None
    reader = int(done.stdout.readline())
    assert reader != done.pid
    done.send_signal(number)
    _, said = done.communicate(timeout=60)
    assert done.returncode != 0
    assert "Traceback" not in said
    eventually(lambda: not is_alive(reader), 30, "the reader is gone")
    assert not (one.directory / "run").exists()


def test_an_interrupt_from_a_terminal_is_told_once(python: Begin) -> None:
    """Control-C reaches both of them; only the daemon says so."""
    done = python(WAITS)
    assert done.stdout is not None
    reader = int(done.stdout.readline())
    os.killpg(done.pid, signal.SIGINT)
    _, said = done.communicate(timeout=60)
    assert (done.returncode, said.split()) == (1, ["Aborted!"])
    eventually(lambda: not is_alive(reader), 30, "the reader is gone")


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "the process that reads it was ended by SIGKILL"),
        ("os._exit(3)", "the process that reads it ended with exit code 3"),
        ("raise MemoryError", "the process that reads it ended with exit code 1"),
    ],
)
def test_a_reader_that_does_not_get_to_its_end_is_told(
    one: Daemon, python: Begin, happens: str, reason: str
) -> None:
    """Exit code 1, and a line that says what became of it."""
    done = python(WAITS.replace("signal.pause()", happens))
    _, said = done.communicate(timeout=60)
    assert done.returncode == 1
    assert f"pitbossd: cannot read {one.manifest_path}: {reason}\npitbossd: nothing was started.\n" in said
    assert not (one.directory / "run").exists()


def test_more_than_a_daemon_would_hold_is_refused(one: Daemon, python: Begin) -> None:
    """The answer is bounded: the reader is ended, and the line says how much was too much."""
    script = "from supervisor.cli import pitbossd_read\npitbossd_read.LONGEST_ANSWER_BYTES = 100\n" + MODULES
    done = python(script)
    _, said = done.communicate(timeout=60)
    assert done.returncode == 1
    assert f"pitbossd: cannot read {one.manifest_path}: it comes to more than 100 bytes\n" in said


def test_no_room_for_a_reader_is_told(one: Daemon, python: Begin) -> None:
    """A kernel that gives no process is told as such."""
    script = "import os\ndef none():\n    raise OSError(11, 'no more of them')\nos.fork = none\n" + MODULES
    done = python(script)
    _, said = done.communicate(timeout=60)
    assert done.returncode == 1
    assert f"cannot read {one.manifest_path}: no process to read it: no more of them\n" in said


def test_a_refusal_is_worded_as_by_check(one: Daemon) -> None:
    """`run` and `check` say the same, word for word, and end with 78."""
    one.manifest_path.write_text("pools:\n  web: {command: x, instnces: 2}\n  b: {}\n")
    ends = [
        subprocess.run(
            [str(BIN / "pitbossd"), verb, str(one.manifest_path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for verb in ("run", "check")
    ]
    assert [end.returncode for end in ends] == [78, 78]
    assert ends[0].stderr == ends[1].stderr
    assert ends[0].stdout == ends[1].stdout == ""


def test_a_daemon_under_systemd_is_ready_by_its_own_pid(daemon: Make) -> None:
    """READY=1 comes from the process that was started, not from the one that read for it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        place = f"/tmp/pb-notify-{os.getpid()}"
        notify.bind(place)
        try:
            notify.settimeout(60)
            notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            running = daemon({"pools": {"web": pool(worker("obedient"))}}, start=False)
            environment = {**os.environ, "NOTIFY_SOCKET": place}
            with running.log_path.open("ab") as log:
                running.process = subprocess.Popen(
                    [str(BIN / "pitbossd"), "run", str(running.manifest_path)],
                    stdout=log,
                    stderr=log,
                    env=environment,
                    cwd=running.directory,
                )
            message, ancillary, _, _ = notify.recvmsg(4096, 1024)
            while b"READY=1" not in message:
                message, ancillary, _, _ = notify.recvmsg(4096, 1024)
            pid = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
            assert pid == running.process.pid
        finally:
            os.unlink(place)
