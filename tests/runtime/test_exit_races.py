"""A worker ends by itself in the very moment in which it is told to: one end, the true one, and no error."""

import asyncio
import itertools
import os
import signal
from pathlib import Path

import pytest

from supervisor.core.events import Exited, SpawnFailed, TreeGone
from supervisor.core.exits import ExitStatus
from supervisor.core.identity import InstanceId
from supervisor.core.plan import Target
from supervisor.runtime.children import Child, unreaped, wait_status
from supervisor.runtime.processes import HELD_SECONDS
from tests.runtime.process_harness import ME, PYTHON, Stand, launch_of, worker
from tests.waiting import async_eventually, eventually

WAYS = ["TERM to main", "TERM to all", "kill", "forget"]


def tell(stand: Stand, way: str, instance: InstanceId = ME, generation: int = 1) -> None:
    """Ask for the end in one of the ways in which the core asks."""
    match way:
        case "TERM to main":
            stand.signal("SIGTERM", instance=instance, generation=generation)
        case "TERM to all":
            stand.signal("SIGTERM", Target.ALL, instance, generation)
        case "kill":
            stand.kill(instance, generation)
        case _:
            stand.forget(instance, generation)


def ends(stand: Stand, instance: InstanceId = ME) -> list[ExitStatus]:
    """The ends that were posted."""
    return [
        event.status for event in stand.events if isinstance(event, Exited) and event.instance == instance
    ]


@pytest.mark.parametrize("ways", list(itertools.permutations(WAYS, 2)), ids=", ".join)
async def test_who_has_just_died_is_not_hurt_by_a_signal(stand: Stand, ways: tuple[str, str]) -> None:
    """Dead and not noticed yet: whatever is sent meets a corpse, and its own exit code is what counts."""
    stand.spawn(launch_of("sh", "-c", "exit 7"))
    leader = stand.processes._lives[ME, 1].leader
    pid = leader.pid
    # The loop does not turn here, so the end is there and nobody has seen it.
    eventually(lambda: wait_status(leader))
    for way in ways:
        tell(stand, way)
    exited = await stand.until(Exited)
    assert exited.status == ExitStatus(code=7)
    for way in ways:
        tell(stand, way)
    await async_eventually(lambda: not stand.processes._lives)
    assert ends(stand) == [ExitStatus(code=7)]
    assert pid not in unreaped()


@pytest.mark.parametrize("way", WAYS[:3])
async def test_the_number_of_a_dead_worker_is_not_given_out_before_its_book_is_closed(
    stand: Stand, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signals go by descriptor, or to a group whose leader is not reaped: never to a bare pid."""
    bare: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *what: bare.append(what))
    stand.spawn(launch_of("true"))
    eventually(lambda: wait_status(stand.processes._lives[ME, 1].leader))
    tell(stand, way)
    await stand.until(Exited)
    tell(stand, way)
    assert bare == []


@pytest.mark.parametrize("way", WAYS[:3])
async def test_many_that_die_while_they_are_told(stand: Stand, way: str) -> None:
    """Twenty workers that end one after another, under twenty signals: each has one end, none is lost."""
    script = "sleep 0.0$1; exit 7"
    crowd = [InstanceId("crowd", number) for number in range(20)]
    for one in crowd:
        stand.spawn(launch_of("sh", "-c", script, "sh", str(one.index)), one)
    dead: set[InstanceId] = set()

    def tell_who_lives() -> bool:
        for one in crowd:
            if one not in dead and wait_status(stand.processes._lives[one, 1].leader):
                dead.add(one)
                tell(stand, way, one)
        return len(dead) == len(crowd)

    eventually(tell_who_lives)
    for one in crowd:
        assert (await stand.until(Exited, one)).status == ExitStatus(code=7)
    assert all(len(ends(stand, one)) == 1 for one in crowd)
    await async_eventually(lambda: not stand.processes._lives)
    assert not [event for event in stand.events if isinstance(event, SpawnFailed)]


async def test_a_leftover_that_dies_while_it_is_killed(stand: Stand, tmp_path: Path) -> None:
    """The last of a tree ends by another's hand just before the kill: the tree is gone, once."""
    stand.spawn(launch_of(*worker("forker.py", "new-session", tmp_path / "pid", "exit")))
    await stand.until(Exited)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    stand.kill()
    await stand.until(TreeGone)
    stand.kill()
    assert sum(isinstance(event, TreeGone) for event in stand.events) == 1


PTRACE_SEIZE = 0x4206
TRACER = (
    "import ctypes, sys\n"
    f"held = ctypes.CDLL(None).ptrace({PTRACE_SEIZE}, int(sys.argv[1]), None, None)\n"
    "print(held, flush=True)\n"
    "sys.stdin.read()\n"
)
"""Traces a process and never waits for it, as a debugger that was left standing does."""


async def test_the_dead_whom_a_tracer_holds_do_not_spin_the_loop(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handle of a dead process is readable although nobody may reap it yet: it is asked now and then."""
    asked: list[float] = []
    loop = asyncio.get_running_loop()

    def counted(child: Child) -> ExitStatus | None:
        asked.append(loop.time())
        return wait_status(child)

    stand.spawn(launch_of("sleep", "60"))
    pid = stand.processes._lives[ME, 1].leader.pid
    tracer = await asyncio.create_subprocess_exec(
        PYTHON, "-c", TRACER, str(pid), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert tracer.stdout is not None
        assert (await tracer.stdout.readline()).strip() == b"0", "it is traced"
        monkeypatch.setattr("supervisor.runtime.processes.wait_status", counted)
        stand.kill()
        await async_eventually(lambda: len(asked) >= 5)
        assert asked[4] - asked[0] >= 3 * HELD_SECONDS, "between two looks the loop rests"
        assert ends(stand) == []
    finally:
        tracer.kill()
        await tracer.wait()
    assert (await stand.until(Exited)).status == ExitStatus(signal="SIGKILL")
