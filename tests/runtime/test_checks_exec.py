"""Commands as checks, with real processes: what passes, what is said, and that nothing is left of them."""

import asyncio
import os
import resource
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.core.effects import Check, Forget
from supervisor.core.events import CheckFailed, CheckKind, CheckPassed, Event
from supervisor.core.identity import InstanceId
from supervisor.core.launch import ExecCheck, Identity, Launch, LogPolicy
from supervisor.runtime.checks import Checks
from supervisor.runtime.starter import Recruit, Starter
from tests.proc import children_of, is_alive, open_descriptors
from tests.waiting import async_eventually

API = InstanceId("api", 0)
LONG = 60.0

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")


def children() -> set[int]:
    """The children of this process, dead or alive."""
    return set(children_of(os.getpid()))


async def death_of(pid: int) -> None:
    """Wait until a process has ended."""
    await async_eventually(lambda: not is_alive(pid))


class Prober:
    """Checks of one instance by one command, which is run in a directory of the test."""

    def __init__(self, directory: Path) -> None:
        self.events: list[Event] = []
        self.directory = directory
        self.launch = Launch(
            ("true",), {"PATH": os.environ["PATH"], "KEY": "value"}, str(directory), LogPolicy(None)
        )
        self.checks = Checks(post=self.events.append, launch=lambda *_: self.launch)

    def start(self, *argv: str, seconds: float = LONG, generation: int = 1) -> None:
        """Begin a readiness check."""
        self.launch = replace(self.launch, readiness=ExecCheck(argv))
        self.checks.check(Check(API, generation, CheckKind.READINESS, seconds))

    async def ask(self, *argv: str, seconds: float = LONG) -> str | None:
        """Perform one check: None if it passes, else the reason."""
        self.events.clear()
        self.start(*argv, seconds=seconds)
        await async_eventually(lambda: self.events)
        (event,) = self.events
        if isinstance(event, CheckFailed):
            return event.reason
        assert event == CheckPassed(API, 1, CheckKind.READINESS)
        return None

    async def pid_from(self, name: str) -> int:
        """The pid that a command wrote into a file of the directory."""
        path = self.directory / name
        text = await async_eventually(lambda: path.exists() and path.read_text().strip())
        return int(str(text))


@pytest.fixture
async def prober(tmp_path: Path) -> AsyncIterator[Prober]:
    """A prober that leaves no process, zombie, task or descriptor behind."""
    before = open_descriptors(), children()
    made = Prober(tmp_path)
    yield made
    await made.checks.close()
    await async_eventually(lambda: (open_descriptors(), children()) == before)
    await async_eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def test_the_exit_code_decides(prober: Prober) -> None:
    """Zero passes; anything else fails with the command, its end and the last line it wrote."""
    assert await prober.ask("true") is None
    assert await prober.ask("false") == "false exited with 1"
    reason = await prober.ask("sh", "-c", "echo first; echo ' no route ' >&2; echo; exit 7")
    assert reason == "sh exited with 7: no route"
    assert await prober.ask("sh", "-c", "kill -USR1 $$") == "sh was ended by SIGUSR1"


async def test_a_command_that_cannot_run_says_so(prober: Prober) -> None:
    """The reason is that of the spawn."""
    reason = await prober.ask("./missing.sh")
    assert reason is not None
    assert reason.startswith("cannot run ./missing.sh")
    assert await prober.ask() is not None


async def test_a_daemon_without_descriptors_says_so(prober: Prober, caplog: pytest.LogCaptureFixture) -> None:
    """Having no room for a pipe is our lack: it is said and counted, and what was known holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        reason = await prober.ask("true")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert reason == "cannot run true: Too many open files"
    (said,) = caplog.records
    assert said.exc_info is None
    assert "what was known of it holds" in said.message
    assert prober.checks.unasked == 1
    assert await prober.ask("true") is None
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        assert await prober.ask("false") is None, "it passed when it was last asked"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert prober.checks.unasked == 2


@as_root
async def test_a_user_with_too_many_processes_is_not_failed_for_it(
    prober: Prober, caplog: pytest.LogCaptureFixture
) -> None:
    """A command whose user may have no further process never ran: it says nothing about the worker."""
    assert await prober.ask("true") is None
    crowd = Identity("crowd", 54322, 54322, ())
    with subprocess.Popen(["sleep", "1000"], user=54322) as other:  # noqa: ASYNC220  it only sleeps
        prober.launch = replace(
            prober.launch, identity=crowd, limits={"NPROC": (0, 0)}, working_directory="/"
        )
        try:
            assert await prober.ask("false") is None, "it passed when it was last asked"
        finally:
            other.kill()
    assert prober.checks.unasked == 1
    assert "the limit of processes is reached" in caplog.text
    prober.launch = replace(prober.launch, limits={})
    assert await prober.ask("false") == "false exited with 1"


async def test_it_runs_as_the_worker_would(prober: Prober, tmp_path: Path) -> None:
    """Same directory and environment, and PITBOSS_CHECK names what is asked."""
    assert await prober.ask("sh", "-c", 'echo "$KEY $PITBOSS_CHECK $(pwd)"; exit 1') == (
        f"sh exited with 1: value readiness {tmp_path}"
    )


@as_root
async def test_it_runs_as_the_worker_s_user(prober: Prober) -> None:
    """A probe has no more rights than the worker; a command that user may not run fails with the reason."""
    prober.launch = replace(
        prober.launch, identity=Identity("nobody", 65534, 65534, (65534,)), working_directory="/"
    )
    assert await prober.ask("sh", "-c", "id -u; exit 1") == "sh exited with 1: 65534"
    reason = await prober.ask("/root/missing.sh")
    assert reason is not None
    assert reason.startswith("cannot run /root/missing.sh")


async def test_a_flood_of_output_is_read_and_only_its_end_kept(prober: Prober) -> None:
    """Megabytes neither block the command nor stay in memory, and a line is cut at 200 characters."""
    script = "head -c 5000000 /dev/zero | tr '\\0' x; echo; echo; printf '%0300d\\033[2J' 0; exit 3"
    assert await prober.ask("sh", "-c", script) == "sh exited with 3: " + "0" * 200


async def test_what_takes_too_long_is_killed_with_its_group(prober: Prober) -> None:
    """The answer comes at the deadline with the last words, and the whole group is gone, TERM or not."""
    script = "trap '' TERM; (trap '' TERM; sleep 1000) & echo $! >child; echo $$ >main; echo waiting; wait"
    reason = await prober.ask("sh", "-c", script, seconds=0.5)
    assert reason is not None
    assert reason.startswith("sh gave no answer within 0.5 s")
    for name in ("main", "child"):
        pid = await prober.pid_from(name)
        await death_of(pid)


async def test_a_child_that_keeps_the_pipe_open_does_not_hold_the_answer(prober: Prober) -> None:
    """The command is over when its main process is; what it left in its group is killed."""
    assert await prober.ask("sh", "-c", "trap '' TERM; sleep 1000 & echo $! >child") is None
    pid = await prober.pid_from("child")
    await async_eventually(lambda: not is_alive(pid))


async def test_a_forgotten_command_is_killed_and_not_answered(prober: Prober) -> None:
    """Nobody waits for it any more, and it does not go on."""
    prober.start("sh", "-c", "trap '' TERM; sleep 1000 & echo $! >child; echo $$ >main; wait")
    pids = [await prober.pid_from(name) for name in ("main", "child")]
    prober.checks.forget(Forget(API, 1))
    for pid in pids:
        await death_of(pid)
    assert prober.events == []


async def test_closing_waits_until_commands_are_gone(prober: Prober) -> None:
    """Afterwards there is no process and no zombie, and nothing was answered."""
    before = children()
    prober.start("sleep", "1000")
    await async_eventually(lambda: children() != before)
    await prober.checks.close()
    assert children() == before
    assert prober.events == []


async def test_a_command_that_outlives_its_kill_is_not_joined_by_another(
    prober: Prober, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the old one is still there the next request fails at once, so they never pile up."""
    before = children()
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    monkeypatch.setattr("signal.pidfd_send_signal", lambda *_: None)
    assert await prober.ask("sleep", "1000", seconds=0.2) == "sleep gave no answer within 0.2 s"
    assert (
        await prober.ask("sleep", "1000") == "cannot run sleep: the one before was killed and is still there"
    )
    (pid,) = children() - before
    monkeypatch.undo()
    os.kill(pid, 9)
    await async_eventually(lambda: children() == before)
    assert await prober.ask("true") is None


async def test_a_running_check_holds_few_descriptors(prober: Prober) -> None:
    """A pidfd and the output; nothing of other checks leaks into a command."""
    before, alive = open_descriptors(), children()
    prober.start("sleep", "1000", generation=1)
    await async_eventually(lambda: children() != alive)
    one = open_descriptors()
    assert len(one - before) <= 3
    prober.start("sh", "-c", "ls /proc/self/fd >listed; sleep 1000", generation=2)
    path = prober.directory / "listed"
    # Standard input, output and error, and the directory that `ls` reads.
    await async_eventually(lambda: path.exists() and len(path.read_text().split()) == 4)
    assert len(open_descriptors() - before) <= 6


async def test_hundreds_of_commands_leave_nothing(prober: Prober) -> None:
    """Passing, failing, unknown and killed ones: the fixture finds no zombie and no descriptor."""
    for index in range(200):
        match index % 4:
            case 0:
                assert await prober.ask("true") is None
            case 1:
                assert await prober.ask("false") is not None
            case 2:
                assert await prober.ask("./missing") is not None
            case _:
                assert await prober.ask("sleep", "1000", seconds=0.01) is not None
                await async_eventually(lambda: not prober.checks._commands)


async def test_a_command_with_limits_is_a_recruit(
    prober: Prober, starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lives under the limits of its worker, and takes no interpreter of its own."""
    recruits: list[Recruit | None] = []
    ask = starter.recruit

    def recruit(*, own_group: bool = True) -> Recruit | None:
        recruits.append(ask(own_group=own_group))
        return recruits[-1]

    monkeypatch.setattr(starter, "recruit", recruit)
    monkeypatch.setattr("supervisor.runtime.starter.WAIT_SECONDS", 30.0)
    monkeypatch.setattr("supervisor.runtime.starter.STALE_SECONDS", 30.0)
    prober.checks = Checks(post=prober.events.append, launch=lambda *_: prober.launch, starter=starter)
    prober.launch = replace(prober.launch, limits={"NOFILE": (100, 100)})
    assert await prober.ask("sh", "-c", 'test "$(ulimit -n)" = 100') is None
    assert len(recruits) == 1 and recruits[0] is not None
