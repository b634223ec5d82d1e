"""The journal in trouble: damage, strange rows, a place that cannot be written, kill -9, a full disk."""

# The loop of these tests serves nobody else.
# ruff: noqa: ASYNC220, ASYNC240

import asyncio
import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.core.events import Scope
from supervisor.core.phases import Goal
from supervisor.core.plan import HostPlan
from supervisor.core.state import create
from supervisor.store import database
from supervisor.store import journal as journal_module
from supervisor.store.journal import Journal, JournalError
from tests.store.journals import EMAILS, a_host, reread, wished, written
from tests.store.scribe import POOLS, goal
from tests.waiting import async_eventually

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


def no_thread(patch: pytest.MonkeyPatch) -> None:
    """As where the kernel lets this process have no further one (EAGAIN of clone(2))."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    patch.setattr(threading.Thread, "start", start)


async def test_without_a_thread_nothing_is_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread that writes begins with the first write: where it cannot, that is said, and tried again."""
    writes: list[int] = []
    write = database.Database.write

    def counted(one: database.Database, entries: list[database.Entry]) -> None:
        writes.append(len(entries))
        write(one, entries)

    monkeypatch.setattr(database.Database, "write", counted)
    journal, host = Journal.open(path), a_host()
    with pytest.MonkeyPatch.context() as patch:
        no_thread(patch)
        for goal_wished in (Goal.DOWN, Goal.DRAINED):
            journal.observe([wished(EMAILS, goal_wished)], host, 0.0)
            assert "can't start new thread" in str(await asyncio.wait_for(journal.durable(), 60))
        assert await journal.recent_operations(10) == []
        assert await journal.past_operation("op") is None
    assert journal.failures >= 2
    assert caplog.text.count("cannot write the journal: no thread can be started for it") == 1
    assert await asyncio.wait_for(journal.durable(), 60) is None
    await journal.close()
    assert writes == [1], "what failed to begin is not begun later"
    assert (await reread(path))[EMAILS] is Goal.DRAINED


async def test_closing_without_a_thread_says_what_is_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends all the same, and lets go of the file."""
    journal = Journal.open(path)
    no_thread(monkeypatch)
    journal.observe([wished(EMAILS, Goal.DOWN)], create(HostPlan("empty", {})), 0.0)
    await asyncio.wait_for(journal.close(), 60)
    assert "cannot write 1 entries of the journal" in caplog.text
    assert [name for name in os.listdir("/proc/self/fd") if _target(name) == str(path)] == []


def _target(name: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{name}")
    return ""


async def test_what_nobody_expects_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits hears of it, once; what was to be written is, with the next attempt."""
    journal, host = Journal.open(path), a_host()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database.Database, "write", lambda *_: 1 / 0)
        journal.observe([wished(EMAILS, Goal.DOWN)], host, 0.0)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(journal.durable(), 60)
    assert await asyncio.wait_for(journal.durable(), 60) is None
    await journal.close()
    assert (await reread(path))[EMAILS] is Goal.DOWN
