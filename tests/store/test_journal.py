"""What an operator was told is kept, in order, and over restarts of the daemon."""

# The loop of these tests serves nobody else.
# ruff: noqa: ASYNC240

import contextlib
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from supervisor.core.effects import OperationChanged
from supervisor.core.events import DrainRequested, ResumeRequested, Scope, StopRequested, Wish
from supervisor.core.host import step
from supervisor.core.identity import InstanceId
from supervisor.core.phases import Goal
from supervisor.core.plan import HostPlan
from supervisor.core.state import OperationState, StepState, create
from supervisor.store import database
from supervisor.store.journal import QUEUED_OPERATIONS, Journal
from tests.store.journals import EMAILS, a_host, operation, reread, wished, written
from tests.waiting import async_eventually


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
        host.operations["one"] = host.operations["one"]._replace(done=done)
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
