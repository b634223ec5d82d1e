"""Why a program could not be run, said so that one knows what to do; and that it then never ran."""

import errno
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.core.events import Spawned, SpawnFailed
from supervisor.core.launch import Identity, Launch
from supervisor.runtime import become_worker, children
from supervisor.runtime.children import SpawnError, reap, spawn_failure, start_child
from supervisor.runtime.spawn_errors import describe
from tests.runtime.process_harness import NOBODY, PYTHON, Stand, launch_of
from tests.waiting import async_eventually

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")
pytestmark = pytest.mark.usefixtures("way")
WAYS = pytest.mark.parametrize("fields", [{}, {"oom_score_adjust": 500}], ids=["vfork", "helper"])


def why_not(launch: Launch) -> str:
    """The message of the failure, however it comes."""
    try:
        child = start_child(launch)
    except SpawnError as error:
        return str(error)
    select.select([child], [], [], 30)
    failure = spawn_failure(child, launch)
    status = reap(child)
    assert failure is not None, status
    return str(failure)


def script(path: Path, text: str, mode: int = 0o755) -> Path:
    """An executable file."""
    path.write_text(text)
    path.chmod(mode)
    return path


@WAYS
def test_what_is_missing_is_named(tmp_path: Path, fields: dict[str, int]) -> None:
    """A missing program, directory, interpreter and a wrong kind of file all read differently."""
    here = {"working_directory": str(tmp_path), **fields}
    script(tmp_path / "plain", "echo hi", 0o644)
    script(tmp_path / "no-interpreter", "#!/no/such/thing -x\n")
    script(tmp_path / "no-line", "just text\n")
    cases = [
        (launch_of("./nope", **here), f"cannot run ./nope: no such file (working directory {tmp_path}); "),
        (launch_of("nope", **here), f"cannot run nope: not found in PATH ({os.defpath}); "),
        (launch_of("./plain", **here), "cannot run ./plain: permission denied: "),
        (
            launch_of("./no-interpreter", **here),
            "cannot run ./no-interpreter: interpreter /no/such/thing of ",
        ),
        (launch_of("./no-line", **here), "cannot run ./no-line: "),
        (
            launch_of(str(tmp_path), **fields),
            f"cannot run {tmp_path}: permission denied: {tmp_path} is a dir",
        ),
    ]
    for place, trouble in (("/no/where", "does not exist; "), ("/etc/passwd", "is not a directory; ")):
        launch = launch_of("true", working_directory=place, **fields)
        cases.append((launch, f"cannot run true: working directory {place} {trouble}"))
    for launch, beginning in cases:
        message = why_not(launch)
        assert message.startswith(beginning), message
        assert "; " in message
        assert "\n" not in message
    assert "is not executable" in why_not(launch_of("./plain", **here))
    assert "no #! line" in why_not(launch_of("./no-line", **here))


@WAYS
def test_a_program_is_found_where_the_worker_would_look(tmp_path: Path, fields: dict[str, int]) -> None:
    """PATH is that of the worker, and a relative command is relative to its directory."""
    script(tmp_path / "only-here", "#!/bin/sh\nexit 0\n")
    by_path = launch_of("only-here", environment={"PATH": f"/bin:{tmp_path}"}, **fields)
    by_directory = launch_of("./only-here", working_directory=str(tmp_path), **fields)
    for launch in (by_path, by_directory):
        child = start_child(launch)
        select.select([child], [], [], 30)
        assert reap(child).code == 0
    assert "not found in PATH" in why_not(launch_of("only-here", **fields))


def test_a_helper_needs_nothing_more_when_it_has_begun(tmp_path: Path) -> None:
    """With hardly a descriptor left to open, a program is still looked up, and its trouble is told."""
    limits = {"NOFILE": (4, 4)}
    child = start_child(launch_of("true", limits=limits))
    select.select([child], [], [], 30)
    assert spawn_failure(child, launch_of("true")) is None
    reap(child)
    script(tmp_path / "plain", "echo hi", 0o644)
    path = {"PATH": f"{tmp_path}:/bin"}
    assert "not found in PATH" in why_not(launch_of("nope", limits=limits))
    assert "is not executable" in why_not(launch_of("plain", limits=limits, environment=path))


@pytest.mark.parametrize(
    "launch",
    [
        launch_of("a\0b"),
        launch_of("true", environment={"A=B": "c"}),
        launch_of("true", environment={"A": "b\0c"}),
        launch_of(),
        launch_of(""),
    ],
)
def test_what_cannot_be_a_command_is_refused(launch: Launch) -> None:
    """A zero byte, a name with `=` and an empty command are errors with a sentence."""
    with pytest.raises(SpawnError, match="cannot run"):
        start_child(launch)


@WAYS
def test_too_long(fields: dict[str, int]) -> None:
    """A command that the kernel will not take says so."""
    assert "too long" in why_not(launch_of("true", "x" * (1 << 22), **fields))


@pytest.mark.parametrize("way", ["script"], indirect=True)
@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE])
def test_want_of_resources(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """When the kernel cannot make a process the message says which limit it was."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("supervisor.runtime.execution.os.posix_spawn", fail)
    before = os.listdir("/proc/self/fd")
    for fields in ({}, {"oom_score_adjust": 3}):
        with pytest.raises(SpawnError) as caught:
            start_child(launch_of("true", **fields))
        assert os.strerror(code) in str(caught.value)
        assert "raise it or run less" in str(caught.value)
    assert os.listdir("/proc/self/fd") == before


def test_a_child_that_cannot_be_watched_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor for its pidfd the new child is killed and reaped at once."""
    pids: list[int] = []

    def fail(pid: int, _flags: int = 0) -> int:
        pids.append(pid)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("supervisor.runtime.children.os.pidfd_open", fail)
    with pytest.raises(SpawnError, match="no descriptor left"):
        start_child(launch_of("sleep", "1000"))
    assert not Path(f"/proc/{pids[0]}").exists()
    assert not children.unreaped()


@needs_root
def test_failures_name_the_user(tmp_path: Path) -> None:
    """What only the worker's user may not do is told as that user's trouble."""
    (tmp_path / "closed").mkdir(mode=0o700)
    launch = launch_of("true", identity=NOBODY, working_directory=str(tmp_path / "closed"))
    assert why_not(launch).startswith(
        f"cannot run true as nobody: working directory {tmp_path / 'closed'} may not"
    )
    launch = launch_of("nope", identity=NOBODY)
    assert why_not(launch).startswith("cannot run nope as nobody: not found in PATH")


def test_descriptions_of_every_step() -> None:
    """Each step of the helper has a sentence with the step, the reason and what to do."""
    launch = launch_of("./x", identity=Identity("shop", 1000, 1000, ()))
    for step in ("signals", "oom_score_adjust", "nice", "setgroups", "setgid", "setuid", "umask"):
        text = describe(launch, launch.argv, {}, step, errno.EPERM)
        assert text.startswith(f"cannot run ./x as shop: {step}: Operation not permitted; ")
    assert "lower it" in describe(launch, launch.argv, {}, "limit NOFILE", errno.EPERM)
    assert "root again" in describe(launch, launch.argv, {}, "giving up root", errno.EPERM)
    assert "unknown reason" in describe(launch, launch.argv, {}, "start", 0)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="drops privileges with setpriv")
@pytest.mark.parametrize(
    ("fields", "step"),
    [
        ("identity=Identity('root', 0, 0, (0,))", "setgroups: Operation not permitted"),
        ("identity=Identity('root', 0, 65534, ())", "setuid: Operation not permitted"),
        ("identity=Identity('other', 65534, 1, ())", "setgid: Operation not permitted"),
        ("nice=-5", "nice: "),
        ("oom_score_adjust=-900", "oom_score_adjust: Permission denied"),
        ("limits={'NOFILE': (1 << 21, 1 << 21)}", "limit NOFILE: "),
    ],
)
def test_a_step_that_fails_never_runs_the_program(tmp_path: Path, fields: str, step: str) -> None:
    """Without the privilege for it nothing is run, least of all as the wrong user, and the step is named."""
    tmp_path.chmod(0o777)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)
    mark = tmp_path / "ran"
    program = (
        "import select, sys\n"
        f"sys.executable = {PYTHON!r}\n"
        "from supervisor.core.launch import *\n"
        "from supervisor.runtime.children import *\n"
        f"launch = Launch(('touch', {str(mark)!r}), {{'PATH': '/bin'}}, '/', LogPolicy(None), {fields})\n"
        "child = start_child(launch)\n"
        "select.select([child], [], [])\n"
        "print(spawn_failure(child, launch), reap(child))\n"
    )
    command = [
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        sys.executable,
        "-c",
        program,
    ]
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PATH": os.defpath}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert step in result.stdout, result.stdout
    assert "exit 127" in result.stdout
    assert not mark.exists()


@pytest.mark.parametrize("lie", ["setresuid", "setresgid", "setgroups"])
def test_a_step_without_effect_is_a_failure(monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    """A call that reports success and changes nothing stops the helper before the program."""
    for name in ("setresuid", "setresgid", "setgroups"):
        monkeypatch.setattr(os, name, lambda *_: None)
    done = {"setgroups": "getgroups", "setresgid": "getresgid", "setresuid": "getresuid"}
    for name, question in done.items():
        if name == lie:
            break
        answer = [7] if name == "setgroups" else (12345,) * 3
        monkeypatch.setattr(os, question, lambda answer=answer: answer)
    step = [""]
    with pytest.raises(become_worker.NoEffectError):
        become_worker.take_identity(12345, 12345, (7,), step)
    assert step[0] == {"setresuid": "setuid", "setresgid": "setgid", "setgroups": "setgroups"}[lie]


def test_a_way_back_to_root_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the worker could become root again it is not run."""
    monkeypatch.setattr(os, "setgroups", lambda _: None)
    monkeypatch.setattr(os, "getgroups", list)
    for kind in ("uid", "gid"):
        monkeypatch.setattr(os, f"setres{kind}", lambda *_: None)
        monkeypatch.setattr(os, f"getres{kind}", lambda: (9, 9, 9))
    step = [""]
    with pytest.raises(become_worker.NoEffectError):
        become_worker.take_identity(9, 9, (), step)
    assert step[0] == "giving up root"


@needs_root
async def test_the_limit_of_processes(stand: Stand) -> None:
    """A user at its limit of processes gets no further one, and the message says which limit that is."""
    crowd = Identity("crowd", 54321, 54321, ())
    stand.launches.clear()
    first = launch_of("sleep", "1000", identity=crowd)
    assert stand.spawn(first)
    pid = stand.events[-1].pid  # type: ignore[union-attr]
    await async_eventually(lambda: b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes())
    second = launch_of("sleep", "1000", identity=crowd, limits={"NPROC": (0, 0)})
    stand.spawn(second, generation=2)
    failure = await stand.until(SpawnFailed, generation=2)
    assert "the limit of processes is reached" in failure.reason
    assert failure.reason.startswith("cannot run sleep as crowd: ")


@pytest.mark.parametrize("fields", [{}, {"oom_score_adjust": 500}], ids=["vfork", "helper"])
async def test_a_failed_spawn_leaves_nothing(stand: Stand, fields: dict[str, int]) -> None:
    """`SpawnFailed` is posted once, also when it is known late, and no process, descriptor or group stays."""
    before = len(os.listdir("/proc/self/fd"))
    stand.spawn(launch_of("true", **fields), generation=1)
    await async_eventually(lambda: not stand.processes._lives)
    before = len(os.listdir("/proc/self/fd"))
    stand.spawn(launch_of("./nope", **fields), generation=2)
    failure = await stand.until(SpawnFailed, generation=2)
    assert failure.reason.startswith("cannot run ./nope: no such file")
    assert bool(fields) == (stand.posted(Spawned, generation=2) is not None)
    assert not stand.processes._lives
    assert len(os.listdir("/proc/self/fd")) == before
    assert not children.unreaped()
