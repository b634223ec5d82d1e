"""Small file systems that a test can fill and empty, turn read-only, or break and mend."""

import shutil
import subprocess
from contextlib import suppress
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

    def remount(self, how: str) -> bool:
        """Make it "ro" or "rw", which the kernel refuses while a file is open for writing; whether it was."""
        command = ["mount", "-o", f"remount,{how}", str(self.path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def close(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)
        shutil.rmtree(self.path, ignore_errors=True)


class Device:
    """An ext4 in a file, which turns read-only by itself after an error, whatever is open on it.

    After that it can only be unmounted, checked and mounted again (ext4(5), errors=remount-ro).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._image = path.with_suffix(".img")
        with self._image.open("wb") as file:
            file.truncate(8 * 1024 * 1024)
        subprocess.run(["mkfs.ext4", "-q", str(self._image)], check=True)

    def mount(self) -> str:
        """Mount it; why that cannot be done here, or nothing."""
        command = ["mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.path)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        return made.stderr.strip()

    def break_down(self) -> None:
        """Let the file system find an error in itself."""
        shown = subprocess.run(
            ["findmnt", "-no", "SOURCE", str(self.path)], capture_output=True, text=True, check=True
        )
        Path("/sys/fs/ext4", Path(shown.stdout.strip()).name, "trigger_fs_error").write_text("1")

    def unmount(self) -> bool:
        """Whether it could be: nobody had a file open on it."""
        return subprocess.run(["umount", str(self.path)], capture_output=True, check=False).returncode == 0

    def check(self) -> None:
        """Look for the error; there is none."""
        # 1: errors were corrected, of which the mark that there had been one is the only one.
        checked = subprocess.run(["e2fsck", "-fy", str(self._image)], capture_output=True, check=False)
        assert checked.returncode in {0, 1}, checked.stdout

    def close(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "--lazy", str(self.path)], capture_output=True, check=False)
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(FileNotFoundError):
            self._image.unlink()


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
