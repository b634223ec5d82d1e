"""What a file held is freed bit by bit, and only if nobody else can read it."""

import asyncio
import errno
import fcntl
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from supervisor.core.identity import InstanceId
from supervisor.core.launch import LogPolicy
from supervisor.runtime import disposal as disposal_module
from supervisor.runtime.disposal import Disposal
from supervisor.runtime.log_files import CHECK_SECONDS, LogFile, OpenFiles
from supervisor.runtime.output import Output
from tests.waiting import async_eventually

SLICE = 100
TEXT = b"".join(b"%09d\n" % number for number in range(35))
SIZES = [250, 150, 50, 0]
"""What is left of it after each slice."""


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def directory() -> Iterator[Path]:
    """In memory, where there are leases; not every file system has them."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """To how many bytes files were cut, in slices of 100."""
    found: list[int] = []
    cut = os.ftruncate

    def noted(descriptor: int, size: int) -> None:
        assert os.fstat(descriptor).st_nlink == 0
        found.append(size)
        cut(descriptor, size)

    monkeypatch.setattr(os, "ftruncate", noted)
    monkeypatch.setattr(disposal_module, "SLICE_BYTES", SLICE)
    return found


@pytest.fixture
async def disposal() -> AsyncIterator[Disposal]:
    """Nothing yet; what is left is closed afterwards."""
    made = Disposal()
    yield made
    made.close()


def open_for(path: Path) -> list[str]:
    """Which descriptors of this process are open for a file of this name, or one that had it."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue
        if name.removesuffix(" (deleted)").startswith(str(path)):
            found.append(name)
    return found


@pytest.mark.parametrize("keep", [0, 1, 3])
async def test_the_oldest_file_is_freed_bit_by_bit(
    directory: Path, disposal: Disposal, cuts: list[int], keep: int
) -> None:
    """Whatever loses its name in a rotation is made shorter, a slice in each turn, and then it is gone."""
    path = directory / "x.log"
    file = LogFile(str(path), len(TEXT), keep, OpenFiles(Clock(), disposal), str.encode)
    for _ in range(keep + 3):
        assert file.write(TEXT) == 0
    file.close()
    first, *others = SIZES
    assert cuts == [first] * 2, "room for what is written next"
    for number in range(2 * len(others)):
        await asyncio.sleep(0)
        assert len(cuts) == 3 + number, "one slice in a turn"
    assert cuts[2:] == others * 2
    assert open_for(path) == []
    kept = [directory / f"x.log.{number}" for number in range(1, keep + 1)]
    assert [one.read_bytes() for one in (path, *kept)] == [TEXT] * (keep + 1)


def has_read(output: Output, count: int) -> bool:
    """Whether so many bytes of the pool have come."""
    return output.pool_counters()["a"][0] == count


async def test_captured_output_is_disposed_of_so(directory: Path, cuts: list[int]) -> None:
    """What a rotation of it deletes is freed bit by bit; what is not freed yet, when it closes."""
    output, log = Output(), directory / "logs"
    policy = LogPolicy(str(log), max_bytes=len(TEXT), keep=1)
    writer = output.writer(InstanceId("a", 0), policy, 1)
    for number in range(1, 4):
        os.write(writer, TEXT)
        await async_eventually(partial(has_read, output, number * len(TEXT)))
    await async_eventually(lambda: cuts == SIZES)
    os.write(writer, TEXT)
    output.drain(InstanceId("a", 0))
    assert len(open_for(log / "a-0.log.1")) == 1
    output.close()
    os.close(writer)
    assert open_for(log) == []


def read_by_another(path: Path) -> Callable[[], bytes]:
    """Somebody who follows the file has it open."""
    reader = path.open("rb")

    def read() -> bytes:
        with reader:
            return reader.read()

    return read


def linked_elsewhere(path: Path) -> Callable[[], bytes]:
    """A backup by hard links has it."""
    link = path.with_name("backup")
    link.hardlink_to(path)
    return link.read_bytes


def renamed(path: Path) -> Callable[[], bytes]:
    """Somebody puts it aside at the last moment."""
    aside = path.with_name("aside")
    path.rename(aside)
    return aside.read_bytes


@pytest.mark.parametrize("taken", [read_by_another, linked_elsewhere, renamed])
async def test_what_somebody_else_can_read_stays_whole(
    directory: Path, disposal: Disposal, cuts: list[int], taken: Callable[[Path], Callable[[], bytes]]
) -> None:
    """It is closed, and not a byte of it is taken away."""
    path = directory / "x.log"
    path.write_bytes(TEXT)
    with disposal.holding(str(path)):
        read = taken(path)
        path.unlink(missing_ok=True)
    for _ in range(10):
        await asyncio.sleep(0)
    assert read() == TEXT
    assert cuts == []
    assert open_for(path) == []


async def test_a_file_that_somebody_deleted_is_freed_bit_by_bit(
    directory: Path, disposal: Disposal, cuts: list[int]
) -> None:
    """The last who has it open is the writer, when it finds that the path names nothing any more."""
    path, clock = directory / "x.log", Clock()
    file = LogFile(str(path), 1000, 1, OpenFiles(clock, disposal), str.encode)
    file.write(TEXT)
    path.unlink()
    clock.now += CHECK_SECONDS
    file.write(TEXT)
    file.close()
    await async_eventually(lambda: cuts == SIZES and not open_for(path))
    assert path.read_bytes() == TEXT


async def test_whoever_brings_too_many_waits(
    directory: Path, disposal: Disposal, cuts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files do not pile up: one more than can wait is freed at once, and closing frees the rest."""
    monkeypatch.setattr(disposal_module, "MOST_WAITING", 2)
    for number in range(3):
        path = directory / str(number)
        path.write_bytes(TEXT)
        with disposal.holding(str(path)):
            path.unlink()
    assert len(open_for(directory)) == 2
    disposal.close()
    assert open_for(directory) == []
    await asyncio.sleep(0)
    assert cuts == SIZES[:1] * 2


async def test_what_cannot_be_told_or_cut_is_closed(
    directory: Path, disposal: Disposal, cuts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without leases, one that does not cut, a FIFO, and nothing at all: no error."""

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EINVAL, "")

    def dispose(path: Path) -> None:
        with disposal.holding(str(path)):
            path.unlink(missing_ok=True)

    doomed = directory / "doomed"
    for module, name in ((fcntl, "fcntl"), (os, "ftruncate")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, refuse)
            doomed.write_bytes(TEXT)
            dispose(doomed)
            await async_eventually(lambda: not open_for(doomed))
    os.mkfifo(doomed)
    dispose(doomed)
    dispose(doomed)
    assert cuts == []
    with pytest.raises(PermissionError), disposal.holding(str(directory)):
        raise PermissionError
