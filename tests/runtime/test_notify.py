"""Notify sockets with real datagrams: who is heard, who is not, and that nobody can do harm."""

import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.core.effects import ReleaseBarrier
from supervisor.core.events import BarrierReached, Event, MainMoved, Told
from supervisor.core.identity import InstanceId
from supervisor.runtime import notify
from supervisor.runtime.notify import MAX_BARRIERS_HELD, NotifySocketError, NotifySockets
from tests.waiting import async_eventually

EMAILS = InstanceId("emails", 0)
REPORTS = InstanceId("reports", 1)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")


class Ear:
    """Notify sockets in a world of two sets: who belongs to a tree, and who may lead it."""

    def __init__(self, directory: Path) -> None:
        self.events: list[Event] = []
        self.generations: dict[InstanceId, int] = {EMAILS: 3, REPORTS: 7}
        self.tree: dict[InstanceId, set[int]] = {EMAILS: {os.getpid()}, REPORTS: {os.getpid()}}
        self.leaders: set[int] = set()
        self.sockets = NotifySockets(
            post=self.events.append,
            directory=directory,
            generation_of=self.generations.get,
            owns=lambda instance, generation, pid: (
                self.generations[instance] == generation and pid in self.tree[instance]
            ),
            adopt_main=lambda instance, generation, pid: pid in self.leaders,
        )

    def told(self, instance: InstanceId = EMAILS) -> list[Told]:
        """What one instance has said so far."""
        return [one for one in self.events if isinstance(one, Told) and one.instance == instance]

    def barriers(self) -> list[int]:
        """The tokens of all barriers that were reached."""
        return [one.token for one in self.events if isinstance(one, BarrierReached)]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path that other users can pass through."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    made.chmod(0o711)
    yield made / "notify"
    shutil.rmtree(made)


@pytest.fixture
async def ear(directory: Path) -> AsyncIterator[Ear]:
    """An ear that is closed again, and leaves no descriptor open."""
    before = open_descriptors()
    made = Ear(directory)
    yield made
    made.sockets.close()
    assert open_descriptors() == before


def open_descriptors() -> set[int]:
    """The descriptors of this process."""
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


def exists(path: str) -> bool:
    """Whether there is anything at a path."""
    return os.path.lexists(path)


def send(path: str, *payloads: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Send datagrams from this process, each with the same descriptors."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as endpoint:
        endpoint.setblocking(False)
        endpoint.connect(path)
        for payload in payloads:
            socket.send_fds(endpoint, [payload], list(descriptors)) if descriptors else endpoint.send(payload)


SENDER = """
import os, socket, sys
path, uid, times, *messages = sys.argv[1:]
if int(uid) >= 0:
    os.setgid(int(uid)); os.setuid(int(uid))
endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sys.stdin.readline()
try:
    endpoint.connect(path)
    for _ in range(int(times)):
        for message in messages:
            endpoint.send(message.encode())
    print("sent", flush=True)
except OSError as error:
    print(error.strerror, flush=True)
sys.stdin.read()
"""


class Sender:
    """Another process that sends when it is told to and stays alive until it is let go."""

    def __init__(self, path: str, *messages: str, uid: int = -1, times: int = 1) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", SENDER, path, str(uid), str(times), *messages],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._heard = ""

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.process.pid

    def go(self) -> None:
        """Let it send."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def outcome(self) -> str:
        """`sent`, the error it met, or nothing so far."""
        assert self.process.stdout is not None
        with suppress(BlockingIOError):
            self._heard += os.read(self.process.stdout.fileno(), 1000).decode()
        return self._heard.strip()

    def end(self) -> None:
        """Let it go and reap it."""
        self.process.kill()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture
def senders() -> Iterator[list[Sender]]:
    """Senders put into this list are ended."""
    made: list[Sender] = []
    yield made
    for one in made:
        one.end()


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


async def test_offered_descriptors_are_closed_and_the_rest_is_heard(ear: Ear) -> None:
    """There is no descriptor store: FDSTORE=1 is ignored, even with as many as one message can carry."""
    path = ear.sockets.path(EMAILS, None)
    before = open_descriptors()
    null = os.open("/dev/null", os.O_RDONLY)
    send(path, b"READY=1\nFDSTORE=1\nFDNAME=cache", descriptors=(null,) * 253)
    os.close(null)
    ear.sockets.poll()
    assert ear.events == [Told(EMAILS, 3, ready=True)]
    assert open_descriptors() == before


async def test_descriptors_that_find_no_room_are_closed(ear: Ear) -> None:
    """At the limit the kernel delivers some of them and says so; the message is dropped, nothing is kept."""
    path = ear.sockets.path(EMAILS, None)
    before = open_descriptors()
    null = os.open("/dev/null", os.O_RDONLY)
    send(path, b"READY=1", descriptors=(null,) * 20)
    os.close(null)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [number for number in range(soft) if number not in before]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[5], hard))
    try:
        ear.sockets.poll()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ear.events == []
    assert ear.sockets.drops()[EMAILS] == 1
    assert open_descriptors() == before


def ask_barrier(path: str) -> int:
    """Send a barrier; the returned end of a pipe hangs up when it is released."""
    reader, writer = os.pipe2(os.O_NONBLOCK)
    send(path, b"BARRIER=1", descriptors=(writer,))
    os.close(writer)
    return reader


def is_released(reader: int) -> bool:
    """Whether the other end is closed everywhere."""
    try:
        return os.read(reader, 1) == b""
    except BlockingIOError:
        return False


async def test_a_barrier_comes_after_everything_before_it(ear: Ear) -> None:
    """It is reported in its place among the messages, and holds until it is released."""
    path = ear.sockets.path(EMAILS, None)
    send(path, b"STATUS=one", b"STATUS=two", b"READY=1")
    reader = ask_barrier(path)
    send(path, b"STATUS=three")
    ear.sockets.poll()
    (token,) = ear.barriers()
    assert [type(one) for one in ear.events] == [Told, Told, BarrierReached, Told]
    assert [one.status for one in ear.told()] == ["two", None, "three"]
    assert not is_released(reader)
    ear.sockets.release_barrier(ReleaseBarrier(token))
    assert is_released(reader)
    ear.sockets.release_barrier(ReleaseBarrier(token))
    os.close(reader)


@pytest.mark.parametrize("number", [0, 2])
async def test_a_barrier_brings_exactly_one_descriptor(ear: Ear, number: int) -> None:
    """Otherwise it is a mistake: nothing is reported, and the descriptors are closed."""
    before = open_descriptors()
    reader, writer = os.pipe2(os.O_NONBLOCK)
    send(ear.sockets.path(EMAILS, None), b"BARRIER=1", descriptors=(writer,) * number)
    os.close(writer)
    ear.sockets.poll()
    assert ear.events == []
    assert is_released(reader)
    os.close(reader)
    assert open_descriptors() - before == set(ear.sockets.descriptors().values())


async def test_barriers_are_not_hoarded(ear: Ear) -> None:
    """A worker cannot make the daemon hold more than a few descriptors; those beyond are let go at once."""
    path = ear.sockets.path(EMAILS, None)
    readers = []
    for _ in range(MAX_BARRIERS_HELD + 3):
        readers.append(ask_barrier(path))
        ear.sockets.poll()
    assert [is_released(one) for one in readers] == [False] * MAX_BARRIERS_HELD + [True] * 3
    for token in ear.barriers():
        ear.sockets.release_barrier(ReleaseBarrier(token))
    readers.append(ask_barrier(path))
    ear.sockets.poll()
    assert len(ear.barriers()) == MAX_BARRIERS_HELD + 1
    ear.sockets.close()
    assert all(is_released(one) for one in readers)
    for one in readers:
        os.close(one)


async def test_a_stranger_s_barrier_is_let_go(ear: Ear) -> None:
    """Whoever does not count is not made to wait either."""
    path = ear.sockets.path(EMAILS, None)
    ear.tree[EMAILS] = set()
    reader = ask_barrier(path)
    ear.sockets.poll()
    assert ear.events == []
    assert is_released(reader)
    os.close(reader)


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


async def test_the_next_image_goes_on_with_the_same_sockets(ear: Ear, directory: Path) -> None:
    """What was sent while nobody read is still there, and the path stays where the worker knows it."""
    path = ear.sockets.path(EMAILS, None)
    send(path, b"READY=1")
    inherited = {who: os.dup(number) for who, number in ear.sockets.descriptors().items()}
    following = Ear(directory)
    for instance, number in inherited.items():
        following.sockets.adopt(instance, number, None)
    following.sockets.poll()
    assert following.sockets.path(EMAILS, None) == path
    assert following.told() == [Told(EMAILS, 3, ready=True)]
    assert not any(os.get_inheritable(number) for number in inherited.values())
    following.sockets.close()
    reader, writer = os.pipe()
    with pytest.raises(NotifySocketError, match="cannot adopt descriptor"):
        ear.sockets.adopt(REPORTS, reader, None)
    os.close(reader)
    os.close(writer)


async def test_a_socket_left_by_a_daemon_that_died_is_replaced(ear: Ear, directory: Path) -> None:
    """The path is the same in the next life, so the worker that kept it is heard again."""
    path = str(directory / "emails-0")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(path)
    assert ear.sockets.path(EMAILS, None) == path
    send(path, b"READY=1")
    await async_eventually(ear.told)


async def test_long_and_odd_names_get_a_short_path(ear: Ear) -> None:
    """A name that does not fit or could leave the directory is replaced by a digest that stays the same."""
    for pool in ("x" * 200, "../etc", "ä", "~a"):
        instance = InstanceId(pool, 0)
        path = ear.sockets.path(instance, None)
        assert len(path) <= 107
        assert path.rpartition("/")[2].startswith("~")
        ear.sockets.remove(instance)
        assert not exists(path)
        assert ear.sockets.path(instance, None) == path


async def test_a_directory_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    """The message gives both lengths and the setting to change."""
    deep = Ear(tmp_path / ("d" * 100))
    with pytest.raises(NotifySocketError, match=r"at most 107; choose a shorter runtime_directory"):
        deep.sockets.path(EMAILS, None)
    deep.sockets.close()


async def test_a_directory_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    """A link or a file where the directory should be is never followed or replaced."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(NotifySocketError, match="cannot keep notify sockets in"):
            Ear(tmp_path / name)


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


async def test_closing_twice_is_closing_once(ear: Ear) -> None:
    """Nothing is left, and nothing is closed that meanwhile belongs to somebody else."""
    path = ear.sockets.path(EMAILS, None)
    ear.sockets.close()
    ear.sockets.close()
    assert not exists(path)
