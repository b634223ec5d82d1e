"""What a child is when it starts, how its end is read, and that it is reaped once."""

import gc
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.exits import ExitStatus
from supervisor.core.launch import Identity, Launch
from supervisor.runtime.children import (
    reap,
    signal_child,
    signal_name,
    spawn_failure,
    start_child,
    unreaped,
    wait_status,
)
from supervisor.runtime.execution import prepare_to_spawn
from tests.runtime.process_harness import NOBODY, PYTHON, WORKERS, launch_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")
pytestmark = pytest.mark.usefixtures("way")


def run(launch: Launch, **options: object) -> tuple[ExitStatus, str]:
    """Run to the end; how it ended, and why it never ran if so."""
    child = start_child(launch, **options)  # type: ignore[arg-type]
    assert select.select([child], [], [], 30)[0], "it did not end"
    failure = spawn_failure(child, launch)
    return reap(child), str(failure or "")


def report(tmp_path: Path, **fields: object) -> dict[str, Any]:
    """What a worker with this launch finds itself to be."""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.name.startswith(("pytest", "popen")):
            parent.chmod(0o755)
    path = tmp_path / "report"
    launch = launch_of(PYTHON, "-I", "-S", str(WORKERS / "report.py"), str(path), **fields)
    status, failure = run(launch)
    assert status == ExitStatus(code=0), failure
    found: dict[str, Any] = json.loads(path.read_text())
    return found


WAYS = pytest.mark.parametrize("fields", [{}, {"oom_score_adjust": 500}], ids=["vfork", "helper"])


@WAYS
@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 0", ExitStatus(code=0)),
        ("exit 3", ExitStatus(code=3)),
        ("kill -TERM $$", ExitStatus(signal="SIGTERM")),
        ("kill -KILL $$", ExitStatus(signal="SIGKILL")),
        ("ulimit -c 0; kill -SEGV $$", ExitStatus(signal="SIGSEGV")),
    ],
)
def test_statuses(fields: dict[str, int], script: str, status: ExitStatus) -> None:
    """An exit code and a signal are read as what they are."""
    assert run(launch_of("sh", "-c", script, **fields)) == (status, "")


def test_a_peek_does_not_reap() -> None:
    """An end can be read as often as wanted before the child is reaped, and never afterwards."""
    child = start_child(launch_of("true"))
    select.select([child], [], [], 30)
    assert wait_status(child) == wait_status(child) == ExitStatus(code=0)
    assert child.pid in unreaped()
    assert Path(f"/proc/{child.pid}").exists()
    assert reap(child) == ExitStatus(code=0)
    assert child.pid not in unreaped()
    assert child.pidfd == -1


def test_a_living_child_is_not_reaped() -> None:
    """Reaping too early is refused and changes nothing; a signal by descriptor then ends it."""
    child = start_child(launch_of("sleep", "1000"))
    assert wait_status(child) is None
    with pytest.raises(BlockingIOError):
        reap(child)
    assert signal_child(child, "SIGKILL")
    select.select([child], [], [], 30)
    assert reap(child) == ExitStatus(signal="SIGKILL")


def test_an_end_that_somebody_else_reaped_is_unknown() -> None:
    """If something else in the process took the status it is unknown, not an error."""
    child = start_child(launch_of("true"))
    os.waitid(os.P_PID, child.pid, os.WEXITED)
    assert wait_status(child) == ExitStatus()
    assert not signal_child(child, "SIGTERM")
    assert reap(child) == ExitStatus()


def test_subprocess_does_not_reap_behind_our_back() -> None:
    """Neither the garbage collector nor a later Popen takes the status of a child."""
    child = start_child(launch_of("sh", "-c", "exit 7"))
    select.select([child], [], [], 30)
    gc.collect()
    subprocess.run(["true"], check=True)
    assert not subprocess._active  # type: ignore[attr-defined]
    assert reap(child) == ExitStatus(code=7)


@WAYS
def test_a_plain_child(tmp_path: Path, fields: dict[str, int]) -> None:
    """Exactly the environment and directory asked for, a process group of its own, no stray descriptor."""
    stray = os.dup(1)
    os.set_inheritable(stray, True)
    prepare_to_spawn()
    left, right = socket.socketpair()
    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "A": "1", "ODD": "a=b\nc \udcff"}
    try:
        found = report(tmp_path, environment=environment, working_directory="/usr/bin", **fields)
    finally:
        os.close(stray)
        left.close()
        right.close()
    assert found["environment"] == environment
    assert found["cwd"] == os.path.realpath("/usr/bin")
    assert found["group"] == found["pid"]
    assert found["session"] == os.getsid(0)
    # The fourth is the listing itself.
    assert sorted(found["descriptors"])[:3] == ["0", "1", "2"]
    assert {name for name, target in found["descriptors"].items() if "/fd" not in target} == {"0", "1", "2"}
    assert set(found["descriptors"].values()) >= {"/dev/null"}


def test_a_session_of_its_own() -> None:
    """With `new_session` the child leads a session."""
    child = start_child(launch_of("sleep", "1000"), new_session=True)
    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid
    signal_child(child, "SIGKILL")
    select.select([child], [], [], 30)
    reap(child)


def test_output_argv_and_environment_of_a_probe() -> None:
    """Another command can be run in the surroundings of a launch, with its output to a descriptor."""
    reading, writing = os.pipe()
    launch = launch_of("false", working_directory="/usr")
    child = start_child(
        launch, argv=("sh", "-c", "pwd; echo $X >&2"), output=writing, environment={"PATH": "/bin", "X": "y"}
    )
    os.close(writing)
    select.select([child], [], [], 30)
    assert os.read(reading, 100) == b"/usr\ny\n"
    os.close(reading)
    assert reap(child) == ExitStatus(code=0)


@WAYS
def test_signals_are_as_new(fields: dict[str, int]) -> None:
    """Whatever this process ignores, blocks or handles, a worker ignores and blocks nothing."""
    reading, writing = os.pipe()
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: None)
        prepare_to_spawn()
        child = start_child(
            launch_of("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status", **fields), output=writing
        )
        select.select([child], [], [], 30)
        assert reap(child) == ExitStatus(code=0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)
    text = os.read(reading, 1000).decode()
    os.close(reading)
    # The C library keeps 32 and 33 for itself: what it started by posix_spawn (GNU make's children) has
    # them ignored, and nobody can change that through it.
    own = sum(1 << number - 1 for number in (32, 33))
    assert [int(line.split()[1], 16) & ~own for line in text.splitlines()] == [0, 0]


@needs_root
def test_identity(tmp_path: Path) -> None:
    """The worker is the user asked for: real, effective and saved, with exactly the groups asked for."""
    found = report(tmp_path, identity=NOBODY)
    assert found["uids"] == [65534] * 3
    assert found["gids"] == [65534] * 3
    assert found["groups"] == sorted(NOBODY.groups)


@needs_root
def test_identity_without_groups(tmp_path: Path) -> None:
    """No supplementary groups means none: those of root do not stay."""
    found = report(tmp_path, identity=Identity("nobody", 65534, 65534, ()))
    assert found["groups"] == []


def test_own_identity_needs_no_helper(tmp_path: Path) -> None:
    """Asking for what this process is already keeps to the quick way."""
    own = Identity("me", os.geteuid(), os.getegid(), tuple(os.getgroups()))
    child = start_child(launch_of("true", identity=own))
    assert child.report is None
    select.select([child], [], [], 30)
    reap(child)


def test_priorities_and_limits(tmp_path: Path) -> None:
    """Umask, niceness, OOM adjustment and limits are as asked for; what is not named stays."""
    limits = {"NOFILE": (100, 200), "CORE": (0, 0), "FSIZE": (1 << 20, -1)}
    nice = os.getpriority(os.PRIO_PROCESS, 0) + 3
    found = report(tmp_path, umask=0o27, nice=nice, oom_score_adjust=300, limits=limits)
    assert found["umask"] == 0o27
    assert found["nice"] == nice
    assert found["oom"] == 300
    own = {name: list(resource.getrlimit(getattr(resource, "RLIMIT_" + name))) for name in found["limits"]}
    hard = own["FSIZE"][1]
    assert found["limits"] == own | {"NOFILE": [100, 200], "CORE": [0, 0], "FSIZE": [1 << 20, hard]}


def test_umask_alone(tmp_path: Path) -> None:
    """A umask is set on the quick way."""
    assert report(tmp_path, umask=0o7)["umask"] == 0o7


@WAYS
def test_the_watchdog_pid_is_right_or_absent(tmp_path: Path, fields: dict[str, int]) -> None:
    """A helper names the worker's own pid; without one nothing is said."""
    found = report(tmp_path, environment={"WATCHDOG_USEC": "1000", "PATH": "/bin"}, **fields)
    said = found["environment"].get("WATCHDOG_PID")
    assert said == (str(found["pid"]) if fields else None)


@needs_root
def test_nothing_of_the_environment_shows_in_the_process_list(tmp_path: Path) -> None:
    """Neither while a helper runs nor later do values of the environment stand in a command line."""
    launch = launch_of("sleep", "1000", environment={"PATH": "/bin", "KEY": "hush-hush"}, oom_score_adjust=1)
    child = start_child(launch)
    seen = set()
    while "sleep" not in (line := Path(f"/proc/{child.pid}/cmdline").read_text()).split("\0"):
        seen.add(line)
    assert not [line for line in seen | {line} if "hush" in line]
    signal_child(child, "SIGKILL")
    select.select([child], [], [], 30)
    reap(child)


def test_an_ended_helper_is_no_failed_program() -> None:
    """A helper that is ended by a signal counts as a worker that was ended by it."""
    launch = launch_of("sleep", "1000", oom_score_adjust=1)
    child = start_child(launch)
    os.kill(child.pid, signal.SIGKILL)
    select.select([child], [], [], 30)
    assert spawn_failure(child, launch) is None
    assert reap(child) == ExitStatus(signal="SIGKILL")


def test_names_of_signals() -> None:
    """A signal without a name of its own is called by its number."""
    assert signal_name(15) == "SIGTERM"
    assert signal_name(40) == "SIG40"


@pytest.mark.parametrize("way", ["script"], indirect=True)
def test_the_quick_way_never_copies_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way to a child is posix_spawn(3), once: nothing forks."""
    seen: list[str] = []
    real = os.posix_spawn

    def spy(path: str, *arguments: Any, **options: Any) -> int:
        seen.append(path)
        return real(path, *arguments, **options)

    monkeypatch.setattr("supervisor.runtime.execution.os.posix_spawn", spy)
    monkeypatch.setattr(os, "fork", pytest.fail)
    monkeypatch.setattr(subprocess, "Popen", pytest.fail)
    for fields in ({}, {"umask": 0o22}, {"oom_score_adjust": 1}, {"limits": {"FSIZE": (9, 9)}}):
        run(launch_of("true", **fields))
    assert [os.path.basename(path) for path in seen[:2]] == ["true", "true"]
    assert seen[2:] == [sys.executable] * 2
