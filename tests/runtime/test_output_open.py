"""Which log files are held open: few at a time, and not for long those that nobody writes."""

import os
from pathlib import Path

from supervisor.runtime.log_files import CHECK_SECONDS, OPEN_FILES, LogFile, OpenFiles


def make(path: Path, files: OpenFiles) -> LogFile:
    """A log file at a path."""
    return LogFile(str(path), 1000, 3, files, str.encode)


def test_few_files_are_open_at_a_time(tmp_path: Path) -> None:
    """Many files are written in turn with a bounded number of descriptors, and nothing is lost."""
    files = OpenFiles()
    many = [make(tmp_path / f"{number}.log", files) for number in range(OPEN_FILES + 40)]
    before = len(os.listdir("/proc/self/fd"))
    for turn in range(3):
        for file in many:
            assert file.write(b"turn %d\n" % turn) == 0
            assert len(files) <= OPEN_FILES
    assert len(os.listdir("/proc/self/fd")) == before + OPEN_FILES
    for file in many:
        assert Path(file.path).read_bytes() == b"turn 0\nturn 1\nturn 2\n"
        file.close()
    assert len(files) == 0
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_wrote_within_the_last_second_keeps_its_file(tmp_path: Path) -> None:
    """Room for another is made by who has been silent the longest."""
    now = 1000.0
    files = OpenFiles(lambda: now)
    first, second, *others = (make(tmp_path / f"{number}.log", files) for number in range(OPEN_FILES))
    for file in (first, second, *others):
        file.write(b"one\n")
    now += CHECK_SECONDS
    first.write(b"two\n")
    another = make(tmp_path / "another.log", files)
    another.write(b"one\n")
    assert (first._descriptor >= 0, second._descriptor >= 0) == (True, False)
    for file in (first, another, *others):
        file.close()
    assert len(files) == 0
