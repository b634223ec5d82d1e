"""Put the other supervisors into a cache directory: `python -m tests.benchmarks.install`.

Python packages go into environments of their own (supervisord's package has the import name of ours),
pm2 into a folder of its own. s6 and runit have paths of the machine compiled into them, so they are
used only where the machine has them (`apt-get install s6 runit`). What cannot be had is reported by the
benchmark that misses it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pitboss-bench"
PYTHON_PACKAGES = {"supervisord": "supervisor==4.3.0", "circus": "circus==0.19.0"}
PM2 = "pm2@7.0.4"


def _python(package: str, directory: Path) -> None:
    # The interpreter under pitboss, so that no difference is one of interpreters.
    subprocess.run([sys._base_executable, "-m", "venv", str(directory)], check=True)  # type: ignore[attr-defined]
    pip = [str(directory / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, package], check=True)


def _pm2(directory: Path) -> None:
    directory.mkdir(parents=True)
    command = ["npm", "install", "--prefix", str(directory), "--no-audit", "--no-fund", "--silent", PM2]
    subprocess.run(command, check=True)


def _fetch(name: str, step: Callable[[Path], None]) -> None:
    directory = CACHE / name
    if directory.exists():
        return
    try:
        step(directory)
        print(f"{name}: in {directory}")
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(directory, ignore_errors=True)
        print(f"{name}: cannot be fetched: {error}")


def main() -> int:
    """Fetch what is not there yet; 0 even if something cannot be had, because the benchmark says so."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for name, package in PYTHON_PACKAGES.items():
        _fetch(name, partial(_python, package))
    _fetch("pm2", _pm2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
