"""Who reads the manifest becomes the daemon: the same process, with nothing left of what reading needed."""

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
from tests.proc import children_of, descriptor_targets
from tests.waiting import eventually

Make = Callable[..., Daemon]
Begin = Callable[[str], subprocess.Popen[str]]

STRANGERS = {
    "click",
    "pydantic",
    "pydantic_core",
    "yaml",
    "_yaml",
    "rich",
    "httpx",
    "psutil",
    "prometheus_client",
}

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
    *("starlette.formparsers", "tempfile", "shutil", "bz2", "lzma", "uuid", "email.utils", "calendar"),
    *("mimetypes", "difflib"),
    *("subprocess", "locale", "dis", "opcode", "hashlib", "http.cookies", "platform"),
    *(
        "inspect",
        "asyncio.staggered",
        "ast",
        "tokenize",
        "textwrap",
        "secrets",
        "random",
        "shlex",
        "typing_extensions",
    ),
    *("anyio", "anyio._lazyimport", "pickle", "ctypes"),
}
"""What the libraries of a daemon would import, and it does not use: 7 MiB."""

if sys.version_info >= (3, 14):
    # `typing` imports what makes source code of annotations.
    UNUSED.remove("ast")

MOST_MODULES = 325
"""Some 304 with Python 3.11, 314 with 3.14. Each costs 20 KiB or so for as long as the daemon lives; raise
it for a reason."""

# What is loaded at the end of a daemon's life. What stands in for a module until somebody looks into it
# is not that module.
MODULES = """
import atexit, sys
from supervisor.cli import pitbossd
def show():
    print(*(name for name, one in sys.modules.items() if one and type(one).__name__ != "_Late"))
    print(sys.unraisablehook.__module__)
atexit.register(show)
pitbossd.main(["run", sys.argv[1]])
"""

# As if this Python were later than any that was tried.
LATER = """
from supervisor.cli import pitbossd_imports
pitbossd_imports.UNTRIED = (3, 0)
"""

# Reads its manifest for ever: a loader that waits stands in for a large file on a dead disk.
READS = """
import signal, sys
import supervisor.manifest.load as load
from supervisor.cli import pitbossd
def wait(path):
    print("reading", flush=True)
    signal.pause()
load.load = wait
pitbossd.main(["run", sys.argv[1]])
"""

# Interrupted when the interpreter has come up for the second time, and nothing of ours has run yet.
BETWEEN = """
import os, signal, sys
if "pitbossd" in sys._xoptions:
    os.kill(os.getpid(), signal.SIGINT)
    print("come up", flush=True)
from supervisor.cli import pitbossd
pitbossd.main(["run", sys.argv[1]])
"""

# The kernel refuses a system call.
REFUSED = """
import os, sys
def refused(*_arguments):
    raise OSError(12, "Cannot allocate memory")
os.{call} = refused
from supervisor.cli import pitbossd
pitbossd.main(["run", sys.argv[1]])
"""

# The kernel does not let it become the parent of orphans.
CHILDLESS = """
import sys
import supervisor.runtime.subreaper as subreaper
from supervisor.cli import pitbossd
def refused():
    raise OSError(1, "Operation not permitted")
subreaper.become_subreaper = refused
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


def answers(one: Daemon) -> bool:
    """Whether a daemon listens on the socket of this manifest."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(one.socket)) == 0


def served(one: Daemon, process: subprocess.Popen[str]) -> str:
    """What a daemon printed, after it was asked by HTTP and ended."""
    eventually(lambda: answers(one), 60, "the daemon listens")
    one.wait_ready()
    assert one.get("/metrics").status_code == one.get("/health").status_code == 200
    process.send_signal(signal.SIGTERM)
    shown, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return shown


def test_a_daemon_imports_nothing_that_it_does_not_use(one: Daemon, python: Begin) -> None:
    """Neither what reads, nor what clients and tests use, is among the modules of one that has served."""
    listed, hook = served(one, python(MODULES)).splitlines()
    modules = set(listed.split())
    assert hook == "supervisor.telemetry.unraisable"
    assert "supervisor.manifest.loaded" in modules
    assert {module.partition(".")[0] for module in modules} & STRANGERS == set()
    assert {"supervisor.manifest.load", "supervisor.manifest.model"} & modules == set()
    assert UNUSED & modules == set()
    assert len(modules) <= MOST_MODULES, f"{len(modules)} modules"


def test_with_a_python_that_was_not_tried_nothing_is_left_out(one: Daemon, python: Begin) -> None:
    """It serves as well, and is larger."""
    assert set(served(one, python(LATER + MODULES)).split()) >= {
        "_ssl",
        "inspect",
        "uvicorn.main",
        "starlette.formparsers",
    }


def test_a_running_daemon_carries_no_model(daemon: Make) -> None:
    """No library of pydantic or YAML is mapped; its children are its workers; nothing handed over is left."""
    running = daemon({"pools": {"web": pool(worker("obedient"))}})
    running.wait_ready()
    mapped = Path(f"/proc/{running.pid}/maps").read_text()
    assert "httptools" in mapped
    unused = ("pydantic", "yaml", "libssl", "libcrypto", "libffi")
    assert [line for line in mapped.splitlines() if any(word in line.lower() for word in unused)] == []
    assert children_of(running.pid) == [running.instance("web/0")["pid"]]
    # Standard input, output and error aside, all pipes are those of a worker: one, read by the daemon.
    targets = descriptor_targets(running.pid).items()
    assert len([target for number, target in targets if number > 2 and target.startswith("pipe:")]) == 1
    assert [target for _, target in targets if "memfd" in target] == []


def test_a_daemon_stands_in_ps_as_it_was_started(one: Daemon) -> None:
    """Under its own name, with every word of the operator and every flag of Python, in its directory."""
    one.write_manifest({"pools": {"web": pool(worker("obedient"), environment={"KEY": "secret-of-a-test"})}})
    words = ["-P", "-X", "utf8", str(BIN / "pitbossd"), "run", "pitboss.yaml", "--log-level", "debug"]
    environment = {**os.environ, "SEEN": "by the daemon"}
    with one.log_path.open("ab") as log:
        one.process = subprocess.Popen(
            [sys.executable, *words],
            stdout=log,
            stderr=log,
            env=environment,
            cwd=one.directory,
            umask=0o027,
        )
    eventually(lambda: answers(one), 60, "the daemon listens")
    place = Path(f"/proc/{one.pid}")
    assert (place / "comm").read_text() == "pitbossd\n"
    shown = (place / "cmdline").read_text().split("\0")[:-1]
    assert shown[0] == sys.executable and shown[-len(words) :] == words
    assert len(shown) == 1 + 2 + len(words)
    assert "secret-of-a-test" not in " ".join(shown)
    # LC_CTYPE is what Python adds where there is no locale.
    seen = dict(entry.split("=", 1) for entry in (place / "environ").read_text().split("\0")[:-1])
    assert {**seen, "LC_CTYPE": ""} == {**environment, "LC_CTYPE": ""}
    assert (place / "cwd").resolve() == one.directory
    assert "Umask:\t0027\n" in (place / "status").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
def test_a_signal_while_the_manifest_is_read_ends_it(
    one: Daemon, python: Begin, number: signal.Signals
) -> None:
    """Whatever it is, nothing was started; an interrupt is told in a word."""
    done = python(READS)
    assert done.stdout is not None
    assert done.stdout.readline() == "reading\n"
    done.send_signal(number)
    _, said = done.communicate(timeout=60)
    interrupted = number is signal.SIGINT
    assert (done.returncode, said.split()) == ((1, ["Aborted!"]) if interrupted else (-number, []))
    assert not (one.directory / "run").exists()


def test_an_interrupt_between_reading_and_running_is_told_the_same(one: Daemon, python: Begin) -> None:
    """It waits until there is somebody to tell it, and is not lost."""
    done = python(BETWEEN)
    shown, said = done.communicate(timeout=60)
    assert (done.returncode, shown, said.split()) == (1, "come up\n", ["Aborted!"])
    assert not (one.directory / "run").exists()


@pytest.mark.parametrize("call", ["memfd_create", "execv"])
def test_what_keeps_it_from_becoming_the_daemon_is_told(one: Daemon, python: Begin, call: str) -> None:
    """Exit code 1, and a line with the reason of the kernel."""
    done = python(REFUSED.format(call=call))
    _, said = done.communicate(timeout=60)
    assert done.returncode == 1
    assert said == (
        f"pitbossd: cannot hand {one.manifest_path} over to the daemon: Cannot allocate memory\n"
        "pitbossd: nothing was started.\n"
    )
    assert not (one.directory / "run").exists()


def test_an_orphan_comes_to_the_daemon(daemon: Make) -> None:
    """What the program that read the manifest asked of the kernel holds for the daemon."""
    leaves_one_behind = ["/bin/sh", "-c", "(/bin/sleep 1000 &); exec /bin/sleep 1000"]
    running = daemon({"pools": {"web": pool(leaves_one_behind)}})
    eventually(lambda: len(children_of(running.pid)) == 2, 60, "worker and orphan are its children")


def test_who_may_not_become_the_parent_of_orphans_says_so_and_runs(one: Daemon, python: Begin) -> None:
    """A line on standard error, with the reason of the kernel, and a daemon."""
    done = python(CHILDLESS)
    eventually(lambda: answers(one), 60, "the daemon listens")
    one.wait_ready()
    done.send_signal(signal.SIGTERM)
    _, said = done.communicate(timeout=60)
    assert done.returncode == 0, said
    assert said.startswith(
        "pitbossd: cannot become the parent of orphans: Operation not permitted; some may get away\n"
    )


@pytest.mark.parametrize("number", ["0", "77", "99999999999999999999"])
def test_what_was_not_handed_over_is_not_taken(one: Daemon, number: str) -> None:
    """The option of the interpreter is not for people; a descriptor that holds nothing is told as such."""
    done = subprocess.run(
        [sys.executable, "-X", f"pitbossd={number}", BIN / "pitbossd", "run", str(one.manifest_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"pitbossd: cannot take over descriptor {number}: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (one.directory / "run").exists()


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
    """READY=1 comes from the process that was started: it is the same one all the time."""
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
