"""What an operator was told is kept: over restarts, kills, full disks and damaged files."""

# The loop of these tests serves nobody else.
# ruff: noqa: ASYNC220, ASYNC240

import asyncio
import contextlib
import logging
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.core.effects import GoalChanged, OperationChanged
from supervisor.core.events import DrainRequested, ResumeRequested, Scope, StopRequested, Wish
from supervisor.core.host import step
from supervisor.core.identity import InstanceId
from supervisor.core.phases import Goal
from supervisor.core.plan import HostPlan, PoolPlan
from supervisor.core.state import Host, Operation, OperationState, StepState, create
from supervisor.store import database
from supervisor.store import journal as journal_module
from supervisor.store.journal import QUEUED_OPERATIONS, Journal, JournalError
from tests.store.scribe import POOLS, goal
from tests.waiting import async_eventually

EMAILS = Scope("emails")


def a_host() -> Host:
    """Two pools of two."""
    return create(HostPlan("shop", {name: PoolPlan(name, instances=2) for name in ("emails", "web")}))


def wished(scope: Scope, to: Goal) -> GoalChanged:
    """The report of an operator's goal."""
    return GoalChanged(scope, to, "request", "uid=0(root) pid=1")


def operation(name: str, state: OperationState, started_at: float = 10.0) -> Operation:
    """A drain of emails."""
    return Operation(
        name, "drain", EMAILS, state, 1, 2, started_at, 12.0 if state.is_final else None, request_id="r"
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal is, in a directory that does not exist yet."""
    return tmp_path / "state" / "journal.db"


async def written(path: Path, *reports: GoalChanged) -> dict[Scope, Goal]:
    """The intents of the next life after these reports."""
    journal = Journal.open(path)
    host = a_host()
    for report in reports:
        journal.observe([report], host, 0.0)
    assert await journal.durable() is None
    await journal.close()
    return await reread(path)


async def reread(path: Path) -> dict[Scope, Goal]:
    """The intents of the next life."""
    journal = Journal.open(path)
    await journal.close()
    return journal.intents()


async def test_goals_outlive_the_daemon(path: Path) -> None:
    """The last goal of each scope, and nothing else."""
    assert await reread(path) == {}
    intents = await written(
        path,
        wished(EMAILS, Goal.DOWN),
        wished(Scope("web", 1), Goal.DRAINED),
        wished(EMAILS, Goal.DRAINED),
    )
    assert intents == {EMAILS: Goal.DRAINED, Scope("web", 1): Goal.DRAINED}


async def test_the_goal_of_a_pool_replaces_those_of_its_instances(path: Path) -> None:
    """Also across lives, and for that pool only."""
    one = wished(Scope("emails", 0), Goal.DOWN)
    other = wished(Scope("web", 0), Goal.DOWN)
    await written(path, one, other)
    assert await written(path, wished(EMAILS, Goal.UP)) == {EMAILS: Goal.UP, Scope("web", 0): Goal.DOWN}
    assert await written(path, wished(Scope("emails", 1), Goal.DRAINED)) == {
        EMAILS: Goal.UP,
        Scope("emails", 1): Goal.DRAINED,
        Scope("web", 0): Goal.DOWN,
    }


async def test_the_journal_remembers_what_the_core_decided(path: Path) -> None:
    """emails/0 is stopped, then its pool drained; web is stopped, web/1 resumed: each keeps its goal."""
    journal, host = Journal.open(path), a_host()
    for number, event in enumerate(
        [
            StopRequested(Wish(Scope("emails", 0), "a")),
            DrainRequested(Wish(EMAILS, "b")),
            StopRequested(Wish(Scope("web"), "c")),
            ResumeRequested(Wish(Scope("web", 1), "d")),
        ]
    ):
        journal.observe(step(host, event, float(number)), host, float(number))  # type: ignore[arg-type]
    assert await journal.durable() is None
    await journal.close()
    again = Journal.open(path)
    await again.close()
    reborn = create(host.plan, again.intents())
    assert {one.id: one.goal for one in reborn.instances.values()} == {
        InstanceId("emails", 0): Goal.DOWN,
        InstanceId("emails", 1): Goal.DRAINED,
        InstanceId("web", 0): Goal.DOWN,
        InstanceId("web", 1): Goal.UP,
    }
    assert {name: pool.goal for name, pool in reborn.pools.items()} == {
        "emails": Goal.DRAINED,
        "web": Goal.DOWN,
    }


async def test_files_are_tight(path: Path) -> None:
    """0600 for the journal and its side files, 0700 for a directory that was made, whatever the umask was."""
    before = os.umask(0)
    try:
        journal = Journal.open(path)
        journal.observe([wished(EMAILS, Goal.DOWN)], a_host(), 0.0)
        assert await journal.durable() is None
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
        await journal.close()
    finally:
        os.umask(before)
    assert set(modes) == {"journal.db", "journal.db-wal", "journal.db-shm"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    await reread(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_observing_does_not_wait_for_the_disk(path: Path) -> None:
    """While another process holds the file, reports are queued; what waits for the disk is `durable`."""
    journal, host = Journal.open(path), a_host()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(100):
            journal.observe([wished(EMAILS, Goal.DRAINED)], host, 0.0)
        reason = await journal.durable()
        assert reason is not None
        assert "locked" in reason
        other.execute("ROLLBACK")
    assert await journal.durable() is None
    await journal.close()
    assert (await reread(path))[EMAILS] is Goal.DRAINED


async def test_what_could_not_be_written_keeps_its_order(path: Path) -> None:
    """A goal of an instance that is older than the pool's does not come back with a retry."""
    journal, host = Journal.open(path), create(HostPlan("empty", {}))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        journal.observe([wished(EMAILS, Goal.DOWN)], host, 0.0)
        journal.observe([wished(Scope("emails", 0), Goal.UP)], host, 0.0)
        # The writer has taken these and will fail with them; what comes now is newer.
        await async_eventually(lambda: not journal._queue)
        journal.observe([wished(EMAILS, Goal.DRAINED)], host, 0.0)
        assert await journal.durable() is not None
        other.execute("ROLLBACK")
    assert await journal.durable() is None
    await journal.close()
    assert await reread(path) == {EMAILS: Goal.DRAINED}


async def test_history_outlives_the_daemon(path: Path) -> None:
    """Ended operations as they ended, with the steps that did not simply succeed; running ones as aborted."""
    journal, host = Journal.open(path), a_host()
    host.operations = {
        "ended": operation("ended", OperationState.FAILED, 10.0),
        "under-way": operation("under-way", OperationState.RUNNING, 11.0),
    }
    host.steps["ended"] = {
        InstanceId("emails", 0): StepState("done", "exit 0"),
        InstanceId("emails", 1): StepState("failed", "stuck"),
    }
    for name in host.operations:
        journal.observe([OperationChanged(name)], host, 20.0)
    journal.observe([OperationChanged("forgotten meanwhile")], host, 20.0)
    await journal.close()

    again = Journal.open(path)
    under_way, ended = await again.recent_operations(10)
    assert (under_way["id"], under_way["state"]) == ("under-way", "aborted")
    assert under_way["message"] == "the daemon was restarted"
    assert under_way["finished_at"] is not None
    assert (ended["id"], ended["state"], ended["target"]) == ("ended", "failed", "emails")
    assert ended["steps"] == [{"instance": "emails/1", "state": "failed", "detail": "stuck"}]
    assert await again.past_operation("ended") == ended
    assert await again.past_operation("other") is None
    assert [one["id"] for one in await again.recent_operations(1)] == ["under-way"]
    assert str(ended["started_at"]) < str(ended["finished_at"])
    await again.close()


async def test_an_operation_is_written_at_its_beginning_and_its_end(path: Path) -> None:
    """A thousand steps in between are not a thousand writes."""
    journal, host = Journal.open(path), a_host()
    host.operations["one"] = operation("one", OperationState.RUNNING)
    queued = []
    for done in range(100):
        host.operations["one"] = replace(host.operations["one"], done=done)
        journal.observe([OperationChanged("one")], host, 0.0)
        queued.append(journal._queued)
    assert set(queued) == {1}
    host.operations["one"] = operation("one", OperationState.SUCCEEDED)
    journal.observe([OperationChanged("one")], host, 0.0)
    assert await journal.durable() is None
    shape = await journal.past_operation("one")
    assert shape is not None
    assert shape["state"] == "succeeded"
    await journal.close()


async def test_history_is_pruned(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the latest are kept."""
    monkeypatch.setattr(database, "KEPT_OPERATIONS", 5)
    journal, host = Journal.open(path), a_host()
    for number in range(12):
        name = f"operation-{number}"
        host.operations[name] = operation(name, OperationState.SUCCEEDED, float(number))
        journal.observe([OperationChanged(name)], host, 20.0)
    assert await journal.durable() is None
    kept = [one["id"] for one in await journal.recent_operations(100)]
    assert kept == [f"operation-{number}" for number in range(11, 6, -1)]
    await journal.close()


async def test_the_queue_is_bounded(path: Path) -> None:
    """With a disk that cannot be written, the oldest operations are forgotten, no goal is."""
    journal, host = Journal.open(path), create(HostPlan("empty", {}))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        journal.observe([wished(EMAILS, Goal.DOWN)], host, 0.0)
        for number in range(QUEUED_OPERATIONS + 50):
            name = f"operation-{number}"
            host.operations[name] = operation(name, OperationState.SUCCEEDED)
            journal.observe([OperationChanged(name)], host, 20.0)
        assert await journal.durable() is not None
        assert len(journal._queue) == QUEUED_OPERATIONS + 1
        other.execute("ROLLBACK")
    await journal.close()
    assert await reread(path) == {EMAILS: Goal.DOWN}


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "not a database": lambda raw: b"this is a text file, not a journal\n" * 100,
    "zeros": lambda raw: bytes(len(raw)),
    "a page of garbage": lambda raw: raw[:4096] + os.urandom(4096) + raw[8192:],
    "cut": lambda raw: raw[: len(raw) // 2],
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_journal_is_moved_aside(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The daemon starts with a fresh one, says so, and keeps the old one for whoever can read it."""
    await written(path, wished(EMAILS, Goal.DOWN))
    spoiled = DAMAGE[damage](path.read_bytes())
    path.write_bytes(spoiled)
    journal = Journal.open(path)
    assert journal.intents() == {}
    aside = [one for one in path.parent.iterdir() if one.name.startswith("journal.db.corrupt-")]
    assert [one.read_bytes() for one in aside if not one.name.endswith(("-wal", "-shm"))] == [spoiled]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(aside[0]).split("-wal")[0] in caplog.text
    journal.observe([wished(EMAILS, Goal.DRAINED)], a_host(), 0.0)
    assert await journal.durable() is None
    await journal.close()
    assert (await reread(path))[EMAILS] is Goal.DRAINED


def test_the_log_of_a_damaged_journal_goes_with_it(path: Path) -> None:
    """SQLite removes it where it can; what it leaves would be taken for the log of the fresh journal."""
    path.parent.mkdir()
    log = path.with_name("journal.db-wal")
    path.write_bytes(b"no database")
    log.write_bytes(b"no log")
    database._move_aside(path, "damaged")
    assert not path.exists()
    assert [one.read_bytes() for one in path.parent.glob("journal.db.corrupt-*-wal")] == [b"no log"]


async def test_a_journal_of_the_future_is_refused(path: Path) -> None:
    """An older daemon must not write what it does not understand, nor move it aside."""
    await written(path, wished(EMAILS, Goal.DOWN))
    with contextlib.closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalError, match="version 99, newer than this pitboss"):
        Journal.open(path)
    assert [one.name for one in path.parent.iterdir() if "corrupt" in one.name] == []


async def test_strange_rows_are_left_out(path: Path) -> None:
    """A row that some other program wrote does not keep the daemon from starting."""
    await written(path, wished(EMAILS, Goal.DOWN))
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("INSERT INTO intents VALUES ('web', -1, 'sideways', 0, '', '')")
        other.execute(
            "INSERT INTO operations VALUES ('x', 'y', 'z', 'failed', 'a', 'b', 'c', 1e300, '', '', '', '{')"
        )
        other.commit()
    journal = Journal.open(path)
    assert Scope("web") not in journal.intents()
    (shape,) = await journal.recent_operations(10)
    assert (shape["id"], shape["done"], shape["steps"]) == ("x", 0, [])
    await journal.close()


async def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A file where the directory should be, a link in place of the journal, and a system directory."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"cannot open the journal .*file/journal\.db"):
        Journal.open(tmp_path / "file" / "journal.db")
    (tmp_path / "journal.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JournalError, match="cannot open the journal"):
        Journal.open(tmp_path / "journal.db")
    with pytest.raises(JournalError, match="cannot open the journal /proc/"):
        Journal.open(Path("/proc/pitboss/journal.db"))


@pytest.mark.parametrize("acknowledged", [0, 1, 3, 10, 40])
async def test_what_was_acknowledged_survives_kill_9(path: Path, acknowledged: int) -> None:
    """Killed in the middle of its writes, the journal parses, and no acknowledged goal is missing."""
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.store.scribe", str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        ) as scribe:
            assert scribe.stdout is not None
            assert scribe.stdout.readline() == "ready\n"
            last = -1
            for _ in range(acknowledged):
                last = int(scribe.stdout.readline())
            scribe.kill()
            last = max([last, *(int(line) for line in scribe.stdout.read().splitlines(keepends=True)
                                if line.endswith("\n"))])  # fmt: skip
        intents = await reread(path)
        for pool in range(POOLS):
            numbers = [number for number in range(last + 1) if number % POOLS == pool]
            if numbers:
                # One goal beyond the last acknowledged one may have been written.
                allowed = {goal(numbers[-1])} | ({goal(last + 1)} if (last + 1) % POOLS == pool else set())
                assert intents[Scope(f"pool-{pool}")] in allowed
        assert not [one.name for one in path.parent.iterdir() if "corrupt" in one.name]


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_is_told_and_nothing_is_lost(
    tiny: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is reported once, the goals wait, and they are written by themselves when there is space."""
    monkeypatch.setattr(journal_module, "RETRY_SECONDS", 0.1)
    caplog.set_level(logging.INFO, "supervisor.store")
    path = tiny / "journal.db"
    journal, host = Journal.open(path), create(HostPlan("empty", {}))
    filler = tiny / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))
    reasons = []
    for number in range(200):
        journal.observe([wished(Scope(f"pool-{number}"), Goal.DRAINED)], host, 0.0)
        reasons.append(await journal.durable())
    assert "full" in str(reasons[-1]), reasons[-1]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    journal.observe([wished(EMAILS, Goal.DOWN)], host, 0.0)
    failures = journal.failures
    await async_eventually(lambda: journal.failures > failures + 2)
    filler.unlink()
    await async_eventually(lambda: not journal._queue and not journal._failing)
    assert journal._retry is None
    assert caplog.records[-1].getMessage() == "the journal is written again"
    await journal.close()
    intents = await reread(path)
    assert intents == {Scope(f"pool-{number}"): Goal.DRAINED for number in range(200)} | {EMAILS: Goal.DOWN}


async def test_a_file_that_failed_is_let_go(tiny: Path) -> None:
    """It is closed, so that the file system can be mounted anew, and none is made where it is missing."""
    path = tiny / "journal.db"
    journal, host = Journal.open(path), create(HostPlan("empty", {}))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        journal.observe([wished(EMAILS, Goal.DOWN)], host, 0.0)
        assert "locked" in str(await journal.durable())
    for one in os.listdir("/proc/self/fd"):
        # One of them was the directory that was listed.
        with contextlib.suppress(FileNotFoundError):
            assert not os.readlink(f"/proc/self/fd/{one}").startswith(str(path))
    path.rename(tiny / "away.db")
    assert "unable to open" in str(await journal.durable())
    assert await journal.recent_operations(10) == []
    assert not path.exists()
    (tiny / "away.db").rename(path)
    assert await journal.durable() is None
    await journal.close()
    assert await reread(path) == {EMAILS: Goal.DOWN}


async def test_closing_with_a_disk_that_fails_says_what_is_lost(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends all the same."""
    journal = Journal.open(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        journal.observe([wished(EMAILS, Goal.DOWN)], create(HostPlan("empty", {})), 0.0)
        await asyncio.wait_for(journal.close(), 60)
    assert "cannot write 1 entries of the journal" in caplog.text
