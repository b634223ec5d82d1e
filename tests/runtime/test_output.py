"""The pump, with real pipes and real processes: fair, complete, and no descriptor too many."""

import fcntl
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from supervisor.core.identity import InstanceId
from supervisor.core.launch import LogFormat, LogPolicy
from supervisor.runtime.log_files import OPEN_FILES
from supervisor.runtime.output import Output
from tests.proc import open_descriptors
from tests.runtime.output_workers import Workers, text_of
from tests.waiting import async_eventually

ONE, TWO = InstanceId("emails", 0), InstanceId("emails", 1)


@pytest.fixture
async def output() -> AsyncIterator[Output]:
    """An output in the running loop; nothing of it is left open."""
    before = open_descriptors()
    made = Output()
    yield made
    made.close()
    assert open_descriptors() == before


@pytest.fixture
def workers() -> Iterator[Workers]:
    """No workers yet."""
    made = Workers()
    yield made
    for child in made.started:
        child.kill()
        child.wait()


async def test_both_streams_of_a_worker_arrive(output: Output, workers: Workers, tmp_path: Path) -> None:
    """Standard output and error are one log in the order written; tail and counters know them."""
    code = "import os\nfor n in range(3): os.write(1, b'out %d\\n' % n); os.write(2, b'err %d\\n' % n)"
    child = workers.start(code, output.writer(ONE, LogPolicy(str(tmp_path)), 1))
    expected = b"out 0\nerr 0\nout 1\nerr 1\nout 2\nerr 2\n"
    await async_eventually(lambda: output.counters(ONE) == (len(expected), 0))
    assert text_of(tmp_path, "emails-0.log") == expected
    assert output.tail(ONE, 2) == ("out 2", "err 2")
    assert output.pool_counters() == {"emails": (len(expected), 0)}
    assert child.wait() == 0


async def test_the_last_words_are_there_when_the_process_is_gone(output: Output, workers: Workers) -> None:
    """`drain` reads what is left without a turn of the loop."""
    child = workers.start("print('Traceback'); print('oops')", output.writer(ONE, LogPolicy(None), 1))
    child.wait()
    output.drain(ONE)
    assert output.tail(ONE, 5) == ("Traceback", "oops")
    output.drain(TWO)
    assert output.tail(TWO, 5) == ()
    assert output.counters(TWO) == (0, 0)


async def test_a_pipe_is_kept_over_generations(output: Output, workers: Workers, tmp_path: Path) -> None:
    """The next generation writes into the same pipe, on a line of its own, and is named in the log."""
    policy = LogPolicy(str(tmp_path), format=LogFormat.JSON)
    held: set[int] | None = None
    for generation in (1, 2, 3):
        code = f"import sys; sys.stdout.write('begin {generation}\\nunfinished')"
        workers.start(code, output.writer(ONE, policy, generation)).wait()
        output.drain(ONE)
        assert held in (None, open_descriptors())
        held = open_descriptors()
    output.release(ONE)
    lines = [json.loads(line) for line in text_of(tmp_path, "emails-0.log").splitlines()]
    assert [(one["generation"], one["message"]) for one in lines] == [
        (generation, text) for generation in (1, 2, 3) for text in (f"begin {generation}", "unfinished")
    ]


async def test_a_policy_may_change_between_generations(output: Output, tmp_path: Path) -> None:
    """A new directory and format hold from the next generation on."""
    for generation, policy in enumerate(
        [LogPolicy(str(tmp_path / "a")), LogPolicy(str(tmp_path / "b")), LogPolicy(None)]
    ):
        writer = output.writer(ONE, policy, generation)
        os.write(writer, b"generation %d\n" % generation)
        os.close(writer)
        output.drain(ONE)
    assert text_of(tmp_path / "a", "emails-0.log") == b"generation 0\n"
    assert text_of(tmp_path / "b", "emails-0.log") == b"generation 1\n"
    assert output.tail(ONE, 9) == ("generation 0", "generation 1", "generation 2")


async def test_the_writer_is_what_a_worker_expects(output: Output) -> None:
    """Blocking, readable and writable, closed on exec: our own O_NONBLOCK does not leak into it."""
    writer = output.writer(ONE, LogPolicy(None), 1)
    flags = fcntl.fcntl(writer, fcntl.F_GETFL)
    assert flags & os.O_ACCMODE == os.O_RDWR
    assert not flags & os.O_NONBLOCK
    assert fcntl.fcntl(writer, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(writer)


async def test_a_worker_without_root_can_open_its_stdout(output: Output, workers: Workers) -> None:
    """Servers like nginx open /dev/stdout by name, which the kernel allows to the owner of the pipe only."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    code = "import os; os.setuid(65534); open('/proc/self/fd/1', 'w').write('opened\\n')"
    for owner, line in ((None, "PermissionError"), (65534, "opened")):
        workers.start(code, output.writer(ONE, LogPolicy(None), 1, owner=owner)).wait()
        output.drain(ONE)
        assert line in output.tail(ONE, 1)[0]


async def test_a_pipe_without_a_writer_costs_nothing(output: Output) -> None:
    """When nobody can write any more the loop is not woken; the next generation is heard."""
    os.close(output.writer(ONE, LogPolicy(None), 1))
    assert output._epoll.poll(0) == []
    writer = output.writer(ONE, LogPolicy(None), 2)
    os.write(writer, b"back\n")
    await async_eventually(lambda: output.tail(ONE, 1) == ("back",))
    os.close(writer)


async def test_floods_are_read_in_turn(output: Output) -> None:
    """Between full pipes no one is ever more than one block ahead, and a late quiet one is served in turn."""
    writers = [output.writer(InstanceId("flood", number), LogPolicy(None), 1) for number in range(7)]
    for writer in writers:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.set_blocking(writer, False)
        os.write(writer, b"x" * (1 << 20))
    quiet = output.writer(ONE, LogPolicy(None), 1)
    os.write(quiet, b"hello\n")
    for turn in range(200):
        output._pump()
        read = [output.counters(InstanceId("flood", number))[0] for number in range(7)]
        if min(read) < 1 << 20:
            assert max(read) - min(read) <= 64 * 1024
        if turn == 4:
            assert output.counters(ONE) == (6, 0), "eight pipes at two a turn are all served in four turns"
    assert read == [1 << 20] * 7
    for writer in (*writers, quiet):
        os.close(writer)


async def test_a_turn_is_bounded(output: Output) -> None:
    """One turn of the loop reads four blocks, however many pipes are full, and lets everything else run."""
    writers = [output.writer(InstanceId("flood", number), LogPolicy(None), 1) for number in range(9)]
    for writer in writers:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 18)
        os.write(writer, b"x" * (1 << 18))
    for turn in range(1, 10):
        output._pump()
        assert output.pool_counters()["flood"][0] == turn * 4 * 64 * 1024
    for writer in writers:
        os.close(writer)


async def test_a_worker_may_read_its_own_pipe(output: Output) -> None:
    """What it has taken back since the poll is not waited for, and what it writes next is heard."""
    writer = output.writer(ONE, LogPolicy(None), 1)
    os.write(writer, b"mine\n")
    assert os.read(writer, 100) == b"mine\n"
    assert output._serve(output._streams[ONE]) == 0
    os.write(writer, b"yours\n")
    await async_eventually(lambda: output.tail(ONE, 9) == ("yours",))
    os.close(writer)


@pytest.mark.parametrize("form", list(LogFormat))
async def test_a_flood_beside_a_talker(
    output: Output, workers: Workers, tmp_path: Path, form: LogFormat
) -> None:
    """Under a flood with rotation, all lines of both are there once, whole and in order, over their files."""
    policy = LogPolicy(str(tmp_path), max_bytes=300_000, keep=2000, format=form)
    flood = "import sys\nfor n in range(60000): sys.stdout.write('flood %07d %s\\n' % (n, 'x' * (n % 90)))"
    talk = "import os\nfor n in range(3000): os.write(1, b'talk %07d\\n' % n)"
    children = [
        workers.start(flood, output.writer(ONE, policy, 1)),
        workers.start(talk, output.writer(TWO, policy, 1)),
    ]
    await async_eventually(lambda: all(child.poll() == 0 for child in children), within=120.0)
    await async_eventually(lambda: not output._epoll.poll(0), what="both pipes are empty")
    for name, expected in (
        ("emails-0.log", [f"flood {n:07d} {'x' * (n % 90)}" for n in range(60_000)]),
        ("emails-1.log", [f"talk {n:07d}" for n in range(3000)]),
    ):
        lines = text_of(tmp_path, name, 2000).decode().splitlines()
        if form is LogFormat.TIMESTAMP:
            lines = [line[len("2026-01-01T00:00:00.000Z ") :] for line in lines]
        elif form is LogFormat.JSON:
            lines = [json.loads(line)["message"] for line in lines]
        assert lines == expected
    rotated = [(tmp_path / name).read_bytes() for name in os.listdir(tmp_path)]
    assert len(rotated) > 5
    assert all(content.endswith(b"\n") for content in rotated)
    assert output.pool_counters()["emails"][1] == 0


async def test_a_worker_goes_on_whatever_happens_to_its_log(
    output: Output, workers: Workers, tmp_path: Path
) -> None:
    """Deleted, then made impossible: the worker's progress never stops and the tail stays current."""
    directory = tmp_path / "logs"
    code = "import itertools,os\nfor n in itertools.count(): os.write(1, b'%09d\\n' % n)"
    workers.start(code, output.writer(ONE, LogPolicy(str(directory), max_bytes=200_000, keep=1), 1))

    async def progress() -> None:
        seen = output.counters(ONE)[0]
        await async_eventually(lambda: output.counters(ONE)[0] > seen + 1_000_000)

    await progress()
    (directory / "emails-0.log").unlink()
    await progress()
    await async_eventually((directory / "emails-0.log").exists)
    directory.rename(tmp_path / "moved")
    directory.write_text("in the way")
    await async_eventually(lambda: output.counters(ONE)[1] > 0)
    await progress()
    newest = int(output.tail(ONE, 2)[0])
    await progress()
    assert int(output.tail(ONE, 2)[0]) > newest


async def test_binary_and_endless_lines(output: Output, workers: Workers, tmp_path: Path) -> None:
    """Every byte value and a megabyte without a newline arrive as they were."""
    code = (
        "import os\nos.write(1, bytes(range(256)) * 40)\n"
        "for _ in range(64): os.write(1, b'y' * 16384)\nos.write(1, b'\\xff\\n')"
    )
    workers.start(code, output.writer(ONE, LogPolicy(str(tmp_path)), 1))
    expected = bytes(range(256)) * 40 + b"y" * (1 << 20) + b"\xff\n"
    await async_eventually(lambda: output.counters(ONE)[0] == len(expected))
    assert text_of(tmp_path, "emails-0.log") == expected
    assert all(line.isprintable() for line in output.tail(ONE, 50))


async def test_a_rate_limit_drops_counts_and_says_so(
    output: Output, workers: Workers, tmp_path: Path
) -> None:
    """Over the limit the log has whole lines and a note about the rest; the tail has everything."""
    policy = LogPolicy(str(tmp_path), rate_limit_bytes=200_000)
    code = (
        "import os,sys\nfor n in range(50000): os.write(1, b'%019d\\n' % n)\n"
        "sys.stdin.read()\nos.write(1, b'the end\\n')"
    )
    writer = output.writer(ONE, policy, 1)
    child = workers.start(code, writer, stdin=subprocess.PIPE)
    await async_eventually(lambda: output.counters(ONE)[0] == 1_000_000)
    _, dropped = output.counters(ONE)
    limit = output._streams[ONE].limit
    assert limit is not None
    if dropped:
        limit._filled_at -= 60.0
    assert child.stdin is not None
    child.stdin.close()
    await async_eventually(lambda: output.tail(ONE, 1) == ("the end",))
    assert output.tail(ONE, 2)[0] == f"{49_999:019d}"
    lines = text_of(tmp_path, "emails-0.log").decode().splitlines()
    kept = [line for line in lines if not line.startswith("[pitboss: ")]
    notes = [int(line.split()[1]) for line in lines if line.startswith("[pitboss: ")]
    assert all(len(line) == 19 and line.isdigit() for line in kept[:-1])
    assert kept[-1] == "the end"
    assert kept == sorted(kept)
    assert sum(notes) == dropped == 1_000_000 - 20 * (len(kept) - 1)


async def test_thousands_of_pipes_leave_nothing_behind(output: Output, tmp_path: Path) -> None:
    """Made, written, read and released in many rounds: no descriptor too many, and all files complete."""
    before = open_descriptors()
    for turn in range(15):
        for number in range(200):
            instance = InstanceId("many", number)
            writer = output.writer(instance, LogPolicy(str(tmp_path)), turn)
            os.write(writer, b"turn %d\n" % turn)
            os.close(writer)
        assert len(open_descriptors()) <= len(before) + 200 + OPEN_FILES
        for number in range(200):
            output.release(InstanceId("many", number))
        assert open_descriptors() == before
    assert output._streams == {}
    assert output._by_descriptor == {}
    expected = b"".join(b"turn %d\n" % turn for turn in range(15))
    assert all(text_of(tmp_path, f"many-{number}.log") == expected for number in range(200))
    assert output.pool_counters() == {"many": (200 * len(expected), 0)}
    output.release(InstanceId("many", 0))


async def test_reopen_after_logrotate(output: Output, tmp_path: Path) -> None:
    """After a rename and a reopen, what follows is in a new file at the old path."""
    writer = output.writer(ONE, LogPolicy(str(tmp_path)), 1)
    os.write(writer, b"old\n")
    output.drain(ONE)
    (tmp_path / "emails-0.log").rename(tmp_path / "emails-0.log-20260101")
    output.reopen()
    os.write(writer, b"new\n")
    output.drain(ONE)
    assert (tmp_path / "emails-0.log").read_bytes() == b"new\n"
    assert (tmp_path / "emails-0.log-20260101").read_bytes() == b"old\n"
    os.close(writer)


async def test_an_error_of_ours_does_not_stop_the_reading(
    output: Output, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug behind the read is logged, and the pipe is read on: the worker must not block for it."""
    writer = output.writer(ONE, LogPolicy(None), 1)
    monkeypatch.setattr(output._streams[ONE], "tail", None)
    os.write(writer, b"hello\n")
    await async_eventually(lambda: "cannot keep 6 bytes of the output of emails/0" in caplog.text)
    assert output._streams[ONE].watched
    os.write(writer, b"again\n")
    await async_eventually(lambda: output.counters(ONE)[0] == 12)
    os.close(writer)
