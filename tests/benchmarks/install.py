"""Put the supervisors of a comparison into a cache directory: `python -m tests.benchmarks.install`.

Python packages go into environments of their own (supervisord's package has the import name of ours),
pm2 into a folder of its own. s6 and runit have paths of the machine compiled into them, so they are
used only where the machine has them (`apt-get install s6 runit`). What cannot be had is reported by the
benchmark that misses it.

pitboss is measured as its users have it: from a wheel of this tree, with nothing beside it but what it
needs. An editable installation finds its modules in another way, and has the tools of the tests around.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pitboss-bench"
PYTHON_PACKAGES = {"supervisord": "supervisor==4.3.0", "circus": "circus==0.19.0"}
PM2 = "pm2@7.0.4"
ROOT = Path(__file__).resolve().parents[2]
KEPT_SECONDS = 2 * 86400
INTO_A_WHEEL = ("supervisor", "pyproject.toml", "README.md", "LICENSE")


def _python(package: str, directory: Path) -> None:
    # The interpreter under pitboss, so that no difference is one of interpreters.
    subprocess.run([sys._base_executable, "-m", "venv", str(directory)], check=True)  # type: ignore[attr-defined]
    pip = [str(directory / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, package], check=True)


def _pm2(directory: Path) -> None:
    directory.mkdir(parents=True)
    command = ["npm", "install", "--prefix", str(directory), "--no-audit", "--no-fund", "--silent", PM2]
    subprocess.run(command, check=True)


def wheel_directory() -> Path:
    """Where a pitboss of exactly this tree and this interpreter is, or belongs."""
    digest = hashlib.sha256(sys.version.encode())
    for name in INTO_A_WHEEL:
        for path in [ROOT / name, *sorted((ROOT / name).rglob("*"))]:
            if path.is_file() and path.suffix != ".pyc":
                digest.update(f"{path.relative_to(ROOT)} {path.stat().st_size}\n".encode())
                digest.update(path.read_bytes())
    return CACHE / f"pitboss-{digest.hexdigest()[:16]}"


def _pitboss(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        # From a copy: setuptools takes along whatever an earlier build has left in the tree.
        copy = Path(name) / "tree"
        copy.mkdir()
        for one in INTO_A_WHEEL:
            if (ROOT / one).is_dir():
                shutil.copytree(ROOT / one, copy / one, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / one, copy)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", name, str(copy)], check=True)
        _python(str(next(Path(name).glob("pitboss-*.whl"))), directory)


def _fetch(name: str, step: Callable[[Path], None]) -> None:
    directory = CACHE / name
    complete = directory / "complete"
    if complete.exists():
        return
    # What is there without that was cut, and may look like the whole.
    shutil.rmtree(directory, ignore_errors=True)
    try:
        step(directory)
        complete.touch()
        print(f"{name}: in {directory}")
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(directory, ignore_errors=True)
        print(f"{name}: cannot be fetched: {error}")


def _forget_old_wheels() -> None:
    """Of trees that have changed since; not what another run may be measuring right now."""
    for directory in CACHE.glob("pitboss-*"):
        if directory != wheel_directory() and directory.stat().st_mtime < time.time() - KEPT_SECONDS:
            shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    """Fetch what is not there yet; 0 even if something cannot be had, because the benchmark says so."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        # Somebody else may be fetching the same.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, package in PYTHON_PACKAGES.items():
            _fetch(name, partial(_python, package))
        _fetch("pm2", _pm2)
        _fetch(wheel_directory().name, _pitboss)
        _forget_old_wheels()
    return 0


if __name__ == "__main__":
    sys.exit(main())
