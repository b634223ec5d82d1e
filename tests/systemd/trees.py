"""Debian trees, wheels and images for the guests, made once and kept.

A tree is what its release installs, and nothing of ours. It is never written to again: guests boot from
an overlay. Everything is kept below `CACHE`, under names that change with what it was made from.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("PITBOSS_TEST_CACHE", "/var/cache/pitboss-tests"))
SUITES = ("bookworm", "trixie", "testing")
"""Releases of Debian, with Python 3.11, 3.13, and the newest that Debian has."""

PACKAGES = ("systemd", "systemd-sysv", "dbus", "kmod", "procps", "make", "python3", "python3-venv")
"""What the how-to page asks for, and what makes a tree boot; procps and kmod serve the tests."""

AGENT = """
[Unit]
Description=takes commands from the test
[Service]
ExecStart=/bin/sh -c 'if [ -d /channel ]; then exec /usr/bin/python3 /usr/local/lib/agent.py /channel/agent; \
else exec /usr/bin/python3 /usr/local/lib/agent.py /dev/ttyS1; fi'
OOMScoreAdjust=-1000
[Install]
WantedBy=multi-user.target
"""

MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@.service",
    "serial-getty@.service",
    "console-getty.service",
    "systemd-timesyncd.service",
)
"""What would run beside the test, or wait for devices that a guest does not have."""

FETCH_KERNEL = r"""
apt-get -q update && cd /tmp && apt-get -q download \
$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p')
"""
"""The package of that name is empty, and depends on the one with the present version in its name."""


class CannotMakeError(Exception):
    """Something could not be fetched or made; the message is the last of what was said about it."""


def tree(suite: str) -> Path:
    """A Debian tree of a release with systemd, Python and the agent of the tests."""
    agent = (Path(__file__).parent / "agent.py").read_text()
    return _kept(f"tree-{suite}", [*PACKAGES, AGENT, agent, *MASKED], lambda place: _make_tree(suite, place))


def wheels(suite: str) -> Path:
    """A directory with everything that `make install` fetches, for the Python of a release."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"], "wheel"]

    def download(place: Path) -> None:
        version = (tree(suite) / "usr/bin/python3").readlink().name.removeprefix("python")
        python = ["--python-version", version, "--only-binary", ":all:"]
        run([sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(place), *python, *needed])

    return _kept(f"wheels-{suite}", needed, download)


def kernel(suite: str) -> Path:
    """An unpacked kernel package of a release: boot/vmlinuz-* and its modules."""

    def fetch(place: Path) -> None:
        with overlay(tree(suite)) as root:
            shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
            run(["chroot", str(root), "sh", "-c", FETCH_KERNEL])
            (package,) = (root / "tmp").glob("linux-image-*.deb")
            run(["dpkg", "--extract", str(package), str(place)])
        # Debian 13 has its modules below /usr.
        if (place / "usr/lib/modules").is_dir():
            (place / "lib").mkdir()
            (place / "usr/lib/modules").rename(place / "lib/modules")

    return _kept(f"kernel-{suite}", [], fetch)


def copy_source(place: Path) -> None:
    """The checkout as it is on disk, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    place.mkdir(parents=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)


@contextlib.contextmanager
def overlay(lower: Path, size: str = "3g") -> Iterator[Path]:
    """A writable view of a tree; what is written lives in memory, `size` of it, and is gone afterwards."""
    base = Path(tempfile.mkdtemp(prefix="pb-guest-", dir="/tmp"))
    try:
        run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(base)])
        try:
            for name in ("upper", "work", "root"):
                (base / name).mkdir()
            layers = f"lowerdir={lower},upperdir={base}/upper,workdir={base}/work"
            run(["mount", "-t", "overlay", "-o", layers, "overlay", str(base / "root")])
            try:
                yield base / "root"
            finally:
                run(["umount", "--lazy", str(base / "root")])
        finally:
            run(["umount", "--lazy", str(base)])
    finally:
        base.rmdir()


def _make_tree(suite: str, place: Path) -> None:
    names = ",".join(PACKAGES)
    run(["debootstrap", "--variant=minbase", f"--include={names}", suite, str(place)], seconds=900)
    for archive in (place / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
    (place / "etc/machine-id").write_text("")
    (place / "etc/hostname").write_text("guest\n")
    (place / "usr/local/lib/agent.py").write_text((Path(__file__).parent / "agent.py").read_text())
    units = place / "etc/systemd/system"
    (units / "agent.service").write_text(AGENT)
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/agent.service").symlink_to("../agent.service")
    for name in MASKED:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")


def _kept(name: str, made_from: list[str], make: Callable[[Path], None]) -> Path:
    """The directory of this name, made if it is not there; who comes while it is made waits for it."""
    mark = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:12]
    place = CACHE / f"{name}-{mark}"
    if place.is_dir():
        return place
    CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.is_dir():
            return place
        draft = Path(tempfile.mkdtemp(prefix=f"{name}-draft-", dir=CACHE))
        try:
            draft.chmod(0o755)
            make(draft)
            draft.rename(place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return place


def run(command: list[str], seconds: float = 600) -> None:
    """Run a program to its end; raises CannotMakeError if it fails."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False, cwd="/"
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")[-2000:]
        raise CannotMakeError(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
