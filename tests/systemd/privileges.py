"""Whether this machine lets us boot a guest: asked by trying each thing that booting one needs."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

TRIAL = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/lower" "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
unshare --pid --net --uts --ipc --cgroup --fork --mount-proc true
"""

PROGRAMS = {
    "container": ("debootstrap", "systemd-nspawn", "setpriv", "unshare", "git"),
    "machine": ("qemu-system-x86_64", "mkfs.ext4", "busybox", "cpio", "depmod", "dpkg"),
}


def forbidden() -> str:
    """What of booting a guest the kernel does not let this process do; empty if nothing."""
    if os.geteuid() != 0:
        return "only root may boot a guest"
    place = cgroup_mount()
    if place is None:
        return "no cgroup2 is mounted here"
    try:
        trial = Path(tempfile.mkdtemp(prefix="pitboss-trial-", dir=place))
        trial.rmdir()
    except OSError as error:
        return f"no control group may be made in {place}: {error.strerror}"
    directory = tempfile.mkdtemp(prefix="pb-trial-", dir="/tmp")
    try:
        command = ["unshare", "--mount", "sh", "-c", TRIAL, "sh", directory]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        return ""
    finally:
        os.rmdir(directory)
    return f"mounts and namespaces are not allowed: {done.stderr.strip()}" if done.returncode else ""


def missing(kind: str) -> str:
    """Which of the programs that a kind of guest needs is not installed; empty if none."""
    names = [name for name in PROGRAMS[kind] if shutil.which(name) is None]
    return f"not installed: {', '.join(names)}" if names else ""


def cgroup_mount() -> Path | None:
    """Where cgroup v2 is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None
