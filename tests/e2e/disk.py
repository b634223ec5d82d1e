"""A small file system that a test can fill and empty."""

import shutil
import subprocess
from pathlib import Path


class Disk:
    """A file system of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Take what space is left, to the last byte."""
        with self._filler.open("ab", buffering=0) as file:
            size = 65536
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2

    def free(self) -> None:
        """Give it back."""
        self._filler.unlink()

    def close(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)
        shutil.rmtree(self.path, ignore_errors=True)


def mount(path: Path, *, mebibytes: int = 1, mode: str = "0755") -> Disk | str:
    """Mount one on an empty directory, or say why that cannot be done here; then the directory is gone."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode={mode}", "pitboss-test", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode == 0:
        return Disk(path)
    path.rmdir()
    return f"a small file system cannot be mounted here: {made.stderr.strip()}"
