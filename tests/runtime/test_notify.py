"""Notify sockets with real datagrams: who is heard, who is not, and that nobody can do harm."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from supervisor.core.effects import ReleaseBarrier
from supervisor.core.events import MainMoved, Told
from supervisor.runtime import notify
from tests.proc import open_descriptors
from tests.runtime.ears import EMAILS, REPORTS, Ear, Sender, exists, send
from tests.waiting import async_eventually

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")


async def test_a_worker_is_heard_in_its_own_generation(ear: Ear) -> None:
    """A datagram of a process of the tree becomes one event that names instance and generation."""
    send(ear.sockets.path(EMAILS, None), b"READY=1\nSTATUS=at work\nX_PITBOSS_INFLIGHT=2")
    await async_eventually(ear.told)
    assert ear.events == [Told(EMAILS, 3, ready=True, status="at work", in_flight=2)]
    assert ear.sockets.drops() == {EMAILS: 0}


async def test_a_path_is_kept_over_generations_and_hidden_from_others(ear: Ear, directory: Path) -> None:
    """One socket per instance, mode 0600, in a directory that nobody can list; it returns when removed."""
    path = ear.sockets.path(EMAILS, None)
    assert ear.sockets.path(EMAILS, None) == path
    assert path == str(directory / "emails-0")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o711
    os.unlink(path)
    assert ear.sockets.path(EMAILS, None) == path
    send(path, b"READY=1")
    await async_eventually(ear.told)
    shutil.rmtree(directory)
    assert ear.sockets.path(EMAILS, None) == path
    send(path, b"READY=1")
    await async_eventually(lambda: len(ear.events) == 2)


async def test_what_an_earlier_generation_says_is_dropped(ear: Ear) -> None:
    """A process that is no part of the living generation is not heard, nor is anybody when none lives."""
    path = ear.sockets.path(EMAILS, None)
    ear.tree[EMAILS] = set()
    send(path, b"READY=1")
    await async_eventually(lambda: ear.sockets.drops()[EMAILS] == 1)
    del ear.generations[EMAILS]
    send(path, b"READY=1")
    await async_eventually(lambda: ear.sockets.drops()[EMAILS] == 2)
    assert ear.events == []


async def test_a_process_outside_the_tree_is_not_heard(ear: Ear, senders: list[Sender]) -> None:
    """It may reach the socket and even be of the right user; its pid gives it away."""
    path = ear.sockets.path(EMAILS, None)
    stranger = Sender(path, "READY=1", "MAINPID=4711")
    senders.append(stranger)
    stranger.go()
    await async_eventually(lambda: ear.sockets.drops()[EMAILS] == 2)
    member = Sender(path, "STATUS=mine")
    senders.append(member)
    ear.tree[EMAILS].add(member.pid)
    member.go()
    await async_eventually(ear.told)
    assert ear.events == [Told(EMAILS, 3, status="mine")]


@as_root
async def test_only_the_worker_s_user_and_root_are_heard(ear: Ear, senders: list[Sender]) -> None:
    """The kernel keeps other users out by the mode of the path, and the credentials are checked as well."""
    path = ear.sockets.path(EMAILS, 65534)
    assert os.stat(path).st_uid == 65534
    mine, other = Sender(path, "STATUS=mine", uid=65534), Sender(path, "STATUS=other", uid=65533)
    senders += [mine, other]
    ear.tree[EMAILS] |= {mine.pid, other.pid}
    other.go()
    await async_eventually(lambda: other.outcome() == "Permission denied")
    mine.go()
    await async_eventually(lambda: len(ear.told()) == 1)
    send(path, b"STATUS=root")
    await async_eventually(lambda: len(ear.told()) == 2)
    os.chmod(path, 0o666)
    late = Sender(path, "STATUS=late", uid=65533)
    senders.append(late)
    ear.tree[EMAILS].add(late.pid)
    late.go()
    await async_eventually(lambda: ear.sockets.drops()[EMAILS] == 1)
    assert [one.status for one in ear.told()] == ["mine", "root"]


@as_root
async def test_a_socket_follows_a_change_of_user(ear: Ear, senders: list[Sender]) -> None:
    """A new generation may run as somebody else; then only that user is heard."""
    path = ear.sockets.path(EMAILS, 65534)
    assert ear.sockets.path(EMAILS, 65533) == path
    assert os.stat(path).st_uid == 65533
    now = Sender(path, "STATUS=now", uid=65533)
    senders.append(now)
    ear.tree[EMAILS].add(now.pid)
    now.go()
    await async_eventually(ear.told)


async def test_a_flood_of_one_delays_nobody(ear: Ear, senders: list[Sender]) -> None:
    """Another worker's READY=1 arrives in the middle of a flood that goes on; the flood itself coalesces."""
    flood = Sender(ear.sockets.path(EMAILS, None), "WATCHDOG=1", "X_PITBOSS_INFLIGHT=1", times=10_000_000)
    quiet = Sender(ear.sockets.path(REPORTS, None), "READY=1")
    senders += [flood, quiet]
    ear.tree[EMAILS].add(flood.pid)
    ear.tree[REPORTS].add(quiet.pid)
    flood.go()
    await async_eventually(ear.told)
    quiet.go()
    await async_eventually(lambda: ear.told(REPORTS))
    assert flood.outcome() == ""
    assert ear.told(REPORTS) == [Told(REPORTS, 7, ready=True)]


async def test_a_hundred_thousand_datagrams_are_all_taken(ear: Ear, senders: list[Sender]) -> None:
    """A long flood is neither lost nor kept: every increment is counted, in fewer events than datagrams."""
    flood = Sender(ear.sockets.path(EMAILS, None), "X_PITBOSS_TASKS_COMPLETED=1", times=100_000)
    senders.append(flood)
    ear.tree[EMAILS].add(flood.pid)
    flood.go()
    await async_eventually(lambda: sum(one.tasks_completed for one in ear.told()) == 100_000, within=120)
    assert len(ear.events) <= 100_000
    assert ear.sockets.drops()[EMAILS] == 0


async def test_one_turn_takes_a_bounded_number_from_each(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is waiting, a pass reads no more than its budget from a socket, and visits them all."""
    monkeypatch.setattr(notify, "DATAGRAMS_PER_TURN", 3)
    for instance in (EMAILS, REPORTS):
        send(ear.sockets.path(instance, None), *[b"X_PITBOSS_TASKS_FAILED=1"] * 5)
    ear.sockets.poll()
    assert [sum(one.tasks_failed for one in ear.told(who)) for who in (EMAILS, REPORTS)] == [3, 3]
    ear.sockets.poll()
    assert [sum(one.tasks_failed for one in ear.told(who)) for who in (EMAILS, REPORTS)] == [5, 5]


async def test_polling_takes_what_is_waiting_right_now(ear: Ear) -> None:
    """A keep-alive that is in the socket counts before its deadline is declared missed."""
    path = ear.sockets.path(EMAILS, None)
    ear.sockets.poll()
    send(path, b"WATCHDOG=1")
    ear.sockets.poll()
    assert ear.events == [Told(EMAILS, 3, watchdog=True)]


async def test_moves_keep_their_order(ear: Ear) -> None:
    """A reload that ends in the same turn is still a reload that ended."""
    send(ear.sockets.path(EMAILS, None), b"RELOADING=1", b"STATUS=reading", b"READY=1", b"STATUS=up")
    ear.sockets.poll()
    assert ear.events == [
        Told(EMAILS, 3, reloading=True, status="reading"),
        Told(EMAILS, 3, ready=True, status="up"),
    ]


HOSTILE = [
    b"READY=1\0STATUS=x",
    b"\xff" * 100,
    b"no assignment",
    b"READY=yes",
    b"X_PITBOSS_INFLIGHT=" + b"9" * 300,
    b"MAINPID=1",
    b"STATUS=" + b"x" * 4096,
    b"x" * 60_000,
]


@pytest.mark.parametrize("payload", HOSTILE)
async def test_hostile_datagrams_do_nothing_and_leak_nothing(ear: Ear, payload: bytes) -> None:
    """With descriptors or without: it is counted, the descriptors are closed, and the next one is heard."""
    path = ear.sockets.path(EMAILS, None)
    reader, writer = os.pipe()
    before = open_descriptors()
    send(path, payload)
    send(path, payload, descriptors=(reader, writer))
    ear.sockets.poll()
    assert ear.events == []
    assert ear.sockets.drops()[EMAILS] == 2
    assert open_descriptors() == before
    send(path, b"READY=1")
    ear.sockets.poll()
    assert ear.told() == [Told(EMAILS, 3, ready=True)]
    os.close(reader)
    os.close(writer)


async def test_a_main_process_moves_only_inside_its_tree(ear: Ear) -> None:
    """MAINPID= is believed if the process is of the tree and could be adopted, and ahead of its message."""
    path = ear.sockets.path(EMAILS, None)
    ear.tree[EMAILS].add(4711)
    send(path, b"STATUS=before", b"MAINPID=4711\nREADY=1", b"MAINPID=4712")
    ear.sockets.poll()
    assert ear.events == [Told(EMAILS, 3, status="before"), Told(EMAILS, 3, ready=True)]
    assert ear.sockets.drops()[EMAILS] == 2
    ear.leaders = {4711, 4712}
    ear.events.clear()
    send(path, b"STATUS=before", b"MAINPID=4711\nREADY=1", b"MAINPID=4712")
    ear.sockets.poll()
    assert ear.events == [
        Told(EMAILS, 3, status="before"),
        MainMoved(EMAILS, 3, 4711),
        Told(EMAILS, 3, ready=True),
    ]


async def test_complaints_do_not_flood_the_log(ear: Ear, caplog: pytest.LogCaptureFixture) -> None:
    """Many dropped messages are one line that says who, why and how many."""
    path = ear.sockets.path(EMAILS, None)
    for _ in range(50):
        send(path, b"READY=0")
        ear.sockets.poll()
    assert ear.sockets.drops()[EMAILS] == 50
    (record,) = caplog.records
    assert record.getMessage() == (
        "cannot take a notify message of emails/0: 'READY=0': only 1 can be said; it is ignored (1 so far)"
    )


async def test_an_event_may_remove_the_socket_it_came_from(ear: Ear) -> None:
    """What an event leads to may close the very socket that is being read."""
    path = ear.sockets.path(EMAILS, None)
    ear.sockets._post = lambda _: ear.sockets.remove(EMAILS)
    send(path, b"READY=1", b"STOPPING=1", b"RELOADING=1")
    ear.sockets.poll()
    assert not exists(path)


def systemd_notify(path: str) -> subprocess.Popen[bytes]:
    """A shell worker's way to say that it is ready."""
    return subprocess.Popen(
        ["systemd-notify", "--ready", "--status=from a shell"], env={**os.environ, "NOTIFY_SOCKET": path}
    )


@pytest.mark.skipif(shutil.which("systemd-notify") is None, reason="systemd-notify is not installed")
async def test_systemd_s_own_sender_is_understood(ear: Ear) -> None:
    """`systemd-notify`, with the barrier it waits at, is heard and comes back."""
    path = ear.sockets.path(EMAILS, None)
    process = systemd_notify(path)
    ear.tree[EMAILS].add(process.pid)

    def has_ended() -> bool:
        for token in ear.barriers():
            ear.sockets.release_barrier(ReleaseBarrier(token))
        return process.poll() is not None

    try:
        await async_eventually(has_ended)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert [(one.ready, one.status) for one in ear.told()] == [(True, "from a shell")]
    assert ear.sockets.drops()[EMAILS] == 0
