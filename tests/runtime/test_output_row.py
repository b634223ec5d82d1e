"""The row of rotated files: who is moved on when a file is changed for another."""

from pathlib import Path

from supervisor.runtime.log_files import LogFile, OpenFiles


def test_a_rotation_touches_no_file_beyond_the_first_free_number(tmp_path: Path) -> None:
    """What somebody took out of the row leaves room for the next: nothing is moved on, or lost, beyond it."""
    path = tmp_path / "log"
    for number in ("1", "3"):
        (tmp_path / f"log.{number}").write_text(number)
    file = LogFile(str(path), 10, 3, OpenFiles(), str.encode)
    file.write(b"old line\n" + b"new line\n")
    file.close()
    found = {entry.name: entry.read_text() for entry in tmp_path.iterdir()}
    assert found == {"log": "new line\n", "log.1": "old line\n", "log.2": "1", "log.3": "3"}
