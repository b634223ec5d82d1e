"""Log files: rotation tears nothing, and whatever happens to the target, writing neither raises nor waits."""

import errno
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.runtime.log_files import (
    CHECK_SECONDS,
    RETRY_SECONDS,
    WARN_SECONDS,
    WARNINGS_PER_MINUTE,
    LogFile,
    OpenFiles,
    check_directory,
    size_text,
)
from supervisor.runtime.log_lines import LONGEST_LINE


class Clock:
    """Time that a test turns by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def note(text: str) -> bytes:
    """The line of the raw format."""
    return text.encode() + b"\n"


@pytest.fixture
def clock() -> Clock:
    """Time that stands still."""
    return Clock()


@pytest.fixture
def files(clock: Clock) -> OpenFiles:
    """No files yet."""
    return OpenFiles(clock)


def make(path: Path, files: OpenFiles, max_bytes: int = 1000, keep: int = 3) -> LogFile:
    """A log file at a path."""
    return LogFile(str(path), max_bytes, keep, files, note)


def all_text(path: Path, keep: int) -> bytes:
    """The text over all rotated files, oldest first."""
    names = [Path(f"{path}.{number}") for number in range(keep, 0, -1)] + [path]
    return b"".join(name.read_bytes() for name in names if name.exists())


def test_the_directory_and_file_are_private(tmp_path: Path, files: OpenFiles) -> None:
    """A missing directory is made for the owner and group only, and so is the file."""
    before = os.umask(0)
    try:
        file = make(tmp_path / "a" / "x.log", files)
        assert file.write(b"hello\n") == 0
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "x.log").read_bytes() == b"hello\n"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "a" / "x.log").stat().st_mode & 0o777 == 0o640


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=8), min_size=1, max_size=20),
    st.integers(1, 700),
    st.data(),
)
def test_rotation_loses_and_tears_nothing(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[int]], max_bytes: int, data: st.DataObject
) -> None:
    """However lines and blocks fall, all text is there in order, and each file holds whole lines."""
    path = tmp_path_factory.mktemp("rotate") / "x.log"
    file = make(path, OpenFiles(Clock()), max_bytes, keep=200)
    text = b"".join(bytes([97 + n % 26]) * (n - 1) + b"\n" for group in groups for n in group)
    position = 0
    while position < len(text):
        step = data.draw(st.integers(1, 900))
        assert file.write(text[position : position + step]) == 0
        position += step
    file.close()
    assert all_text(path, 200) == text
    for one in path.parent.iterdir():
        content = one.read_bytes()
        assert content.endswith(b"\n")
        assert len(content) <= max_bytes or content.count(b"\n") == 1 or len(content) - max_bytes < 300


def test_old_files_are_kept_up_to_the_number(tmp_path: Path, files: OpenFiles) -> None:
    """Of many rotations the newest `keep` files are left, and the disk holds no more."""
    path = tmp_path / "x.log"
    file = make(path, files, max_bytes=10, keep=2)
    for number in range(9):
        file.write(b"%09d\n" % number)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["x.log", "x.log.1", "x.log.2"]
    assert all_text(path, 2) == b"000000006\n000000007\n000000008\n"


def test_keep_nothing(tmp_path: Path, files: OpenFiles) -> None:
    """With keep 0 a full file is simply begun again."""
    file = make(tmp_path / "x.log", files, max_bytes=10, keep=0)
    for number in range(5):
        file.write(b"%09d\n" % number)
    assert [one.name for one in tmp_path.iterdir()] == ["x.log"]
    assert (tmp_path / "x.log").read_bytes() == b"000000004\n"


def test_an_endless_line_is_cut(tmp_path: Path, files: OpenFiles) -> None:
    """A line without an end does not keep a file growing: it exceeds its size by one longest line at most."""
    path = tmp_path / "x.log"
    file = make(path, files, max_bytes=100_000, keep=50)
    for _ in range(100):
        assert file.write(b"x" * 10_000) == 0
    assert all_text(path, 50) == b"x" * 1_000_000
    assert max(one.stat().st_size for one in tmp_path.iterdir()) <= 100_000 + LONGEST_LINE


@pytest.mark.parametrize("how", ["deleted", "renamed", "replaced"])
def test_a_file_taken_away_is_made_anew(tmp_path: Path, files: OpenFiles, clock: Clock, how: str) -> None:
    """Within a second of writing the path names the live file again, and no line is torn."""
    path = tmp_path / "x.log"
    file = make(path, files)
    file.write(b"one\ntw")
    if how == "deleted":
        path.unlink()
    else:
        path.rename(tmp_path / "moved")
        if how == "replaced":
            path.write_bytes(b"other\n")
    clock.now += CHECK_SECONDS
    file.write(b"o\nthree\n")
    assert path.read_bytes() == (b"other\nthree\n" if how == "replaced" else b"three\n")
    if how != "deleted":
        assert (tmp_path / "moved").read_bytes() == b"one\ntwo\n"


def test_the_path_is_looked_at_once_a_second(tmp_path: Path, files: OpenFiles, clock: Clock) -> None:
    """Between two looks the old file is still written: the look costs a system call."""
    path = tmp_path / "x.log"
    file = make(path, files)
    file.write(b"one\n")
    path.unlink()
    clock.now += CHECK_SECONDS / 2
    file.write(b"two\n")
    assert not path.exists()


def test_a_truncated_file_is_not_rotated_early(tmp_path: Path, files: OpenFiles, clock: Clock) -> None:
    """What copytruncate of logrotate does empties the file under us: its size is read again."""
    path = tmp_path / "x.log"
    file = make(path, files, max_bytes=1000)
    file.write(b"x" * 899 + b"\n")
    os.truncate(path, 0)
    clock.now += CHECK_SECONDS
    file.write(b"y" * 899 + b"\n")
    assert path.read_bytes() == b"y" * 899 + b"\n"
    assert not Path(f"{path}.1").exists()


def test_reopen_finishes_the_line_first(tmp_path: Path, files: OpenFiles) -> None:
    """After a rename and a reopen the next line is in the new file, the begun one is whole in the old."""
    path = tmp_path / "x.log"
    file = make(path, files)
    file.write(b"one\ntw")
    path.rename(tmp_path / "x.log.old")
    file.reopen()
    file.write(b"o\nthree\n")
    assert (tmp_path / "x.log.old").read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"
    path.rename(tmp_path / "x.log.older")
    file.reopen()
    file.write(b"four\n")
    assert path.read_bytes() == b"four\n"


@pytest.mark.parametrize("trap", ["symlink", "fifo", "directory"])
def test_a_trap_at_the_path_is_not_opened(
    tmp_path: Path, files: OpenFiles, trap: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A link to another file is not followed, a FIFO does not block us; the output is dropped and counted."""
    path, victim = tmp_path / "x.log", tmp_path / "victim"
    victim.write_bytes(b"precious\n")
    if trap == "symlink":
        path.symlink_to(victim)
    elif trap == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with caplog.at_level(logging.WARNING):
        assert make(path, files).write(b"hello\n") == 6
    assert victim.read_bytes() == b"precious\n"
    assert f"cannot write {path}: " in caplog.text
    assert len(files) == 0


def test_links_of_one_file_do_not_make_the_rotation_spin(tmp_path: Path, files: OpenFiles) -> None:
    """rename(2) between two links of one file does nothing: there must be none when it is called."""
    path = tmp_path / "x.log"
    path.write_bytes(b"x" * 50 + b"\n")
    os.link(path, f"{path}.1")
    file = make(path, files, max_bytes=20, keep=1)
    assert file.write(b"hello\n") == 0
    assert path.read_bytes() == b"hello\n"
    assert Path(f"{path}.1").read_bytes() == b"x" * 50 + b"\n"


def test_a_failing_target_is_left_alone_and_tried_again(
    tmp_path: Path, files: OpenFiles, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Dropped bytes are counted, warned about once a minute, and noted in the file when it works again."""
    path = tmp_path / "d" / "x.log"
    (tmp_path / "d").write_text("in the way")
    file = make(path, files)
    with caplog.at_level(logging.INFO):
        assert file.write(b"one\n") == 4
        for _ in range(10):
            clock.now += RETRY_SECONDS
            assert file.write(b"more\n") == 5
        warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
        assert len(warnings) == 1
        assert warnings[0] == (
            f"cannot write {path}: Not a directory; 4 bytes dropped so far, "
            "the worker goes on, trying again in 5 s"
        )
        (tmp_path / "d").unlink()
        clock.now += RETRY_SECONDS - 1
        assert file.write(b"to") == 2
        clock.now += 1
        assert file.write(b"rn\nwhole\n") == 3
    assert path.read_bytes() == b"[pitboss: 59 bytes dropped: Not a directory]\nwhole\n"
    assert "again; 59 bytes were dropped" in caplog.text
    clock.now += WARN_SECONDS
    assert file.write(b"fine\n") == 0


def test_a_thousand_failing_targets_do_not_flood_the_log(
    tmp_path: Path, files: OpenFiles, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Warnings about all targets together are bounded per minute, and come again later."""
    (tmp_path / "d").write_text("in the way")
    many = [make(tmp_path / "d" / f"{number}.log", files) for number in range(100)]
    for file in many:
        file.write(b"x\n")
    assert len(caplog.records) == WARNINGS_PER_MINUTE
    clock.now += WARN_SECONDS
    for file in many:
        file.write(b"x\n")
    assert len(caplog.records) == 2 * WARNINGS_PER_MINUTE


def test_a_write_that_fails_halfway(
    tmp_path: Path, files: OpenFiles, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short write and then an error: the torn line is ended before the note, the rest of it skipped."""
    path = tmp_path / "x.log"
    file = make(path, files)
    real, answers = os.write, [5, None]

    def short(descriptor: int, data: bytes) -> int:
        answer = answers.pop(0) if answers else len(data)
        if answer is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, bytes(data)[:answer])

    monkeypatch.setattr(os, "write", short)
    assert file.write(b"abcdefgh\nij") == 6
    clock.now += RETRY_SECONDS
    assert file.write(b"kl\nmn\n") == 3
    assert path.read_bytes() == b"abcde\n[pitboss: 9 bytes dropped: No space left on device]\nmn\n"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT, errno.EACCES])
def test_no_error_of_the_system_is_raised(
    tmp_path: Path, files: OpenFiles, clock: Clock, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Opening, writing, comparing and renaming may each fail, for any reason: nothing is ever raised."""
    for number, call in enumerate(["open", "write", "rename", "stat", "fstat"]):
        path = tmp_path / f"{number}.log"
        file = make(path, files, max_bytes=20)
        file.write(b"x" * 15 + b"\n")
        if call in {"open", "fstat"}:
            file.close()
        clock.now += CHECK_SECONDS

        def fail(*arguments: object, **options: object) -> int:
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            assert file.write(b"y" * 10 + b"\n") == 11, call
        clock.now += RETRY_SECONDS
        assert file.write(b"again\n") == 0, call
        assert all_text(path, 3).endswith(b"again\n")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk(
    small_disk: Path, files: OpenFiles, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full disk what fits is there, the rest is counted, and writing goes on when there is room."""
    path = small_disk / "x.log"
    file = make(path, files, max_bytes=10**9)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"b" * 32 * 1024)
    line = b"0123456789" * 6 + b"abc\n"
    dropped = sum(file.write(line * 64) for _ in range(20))
    on_disk = path.stat().st_size
    assert dropped == 20 * 64 * len(line) - on_disk
    assert 0 < on_disk <= 32 * 1024
    assert f"cannot write {path}: No space left on device; " in caplog.text
    ballast.unlink()
    clock.now += RETRY_SECONDS
    assert file.write(line) == 0
    lines = path.read_bytes().splitlines(keepends=True)
    assert lines[-1] == line
    assert lines[-2] == b"[pitboss: %d bytes dropped: No space left on device]\n" % dropped
    assert set(lines[:-3]) == {line}
    file.close()


def test_a_directory_is_checked_before_it_is_needed(tmp_path: Path) -> None:
    """A usable directory is made and left clean; anything else is a sentence with a reason and a remedy."""
    assert check_directory(str(tmp_path / "a" / "b")) is None
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    problem = check_directory(str(tmp_path / "file" / "sub"))
    assert problem is not None
    assert problem.startswith(
        f"cannot write logs in {tmp_path}/file/sub: Not a directory; make it a directory"
    )


def test_a_directory_without_permission(tmp_path: Path) -> None:
    """A directory that this user may not write is found before anything starts."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    problem = check_directory("/proc" if os.geteuid() == 0 else str(closed))
    assert problem is not None
    assert problem.startswith("cannot write logs in ")


def test_sizes_for_people() -> None:
    """Three digits at most, and a unit."""
    assert [size_text(count) for count in (0, 1023, 1536, 12 * 1024, 5 << 20, 3 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "1.5 KiB",
        "12 KiB",
        "5.0 MiB",
        "3.0 TiB",
    ]
