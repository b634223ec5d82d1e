"""A guest in an emulated machine: a kernel and systemd of its own, with every controller of limits; slow."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.systemd.container import installed
from tests.systemd.guest import Guest
from tests.systemd.trees import kernel, overlay, tree, wheels
from tests.waiting import eventually

PATIENCE = 20.0
"""A process starts some fifty times more slowly there than here."""

MODULES = ("virtio_pci", "virtio_blk", "ext4")

QUIET = (
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-binfmt.service",
    "systemd-udevd-kernel.socket",
    "systemd-logind.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
)
"""Left out of the boot, which is twice as fast without them."""

INIT = """#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
until [ -b /dev/vda ]; do sleep 0.1; done
mount -t ext4 -o rw /dev/vda /new || exec sh
mount --move /dev /new/dev; mount --move /sys /new/sys; mount --move /proc /new/proc
exec switch_root /new /lib/systemd/systemd
"""


@contextlib.contextmanager
def booted(suite: str) -> Iterator[Guest]:
    """A booted machine of a release, with the checkout in /src, and installed."""
    unpacked, needed = kernel(suite), wheels(suite)
    with tempfile.TemporaryDirectory(prefix="pb-machine-", dir="/var/tmp") as name:
        place = Path(name)
        with overlay(tree(suite)) as root:
            installed(root, needed)
            _make_image(root, place / "disk")
        _make_initrd(unpacked, place / "initrd")
        (image,) = (unpacked / "boot").glob("vmlinuz-*")
        with _running(image, place) as process, socket.socket(socket.AF_UNIX) as line:
            eventually(lambda: line.connect_ex(str(place / "channel")) == 0, 60, "qemu listens")
            guest = Guest(line, PATIENCE, place / "console")
            guest.greet()
            yield guest
            assert process.poll() is None


@contextlib.contextmanager
def _running(image: Path, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    masked = " ".join(f"systemd.mask={unit}" for unit in QUIET)
    words = f"console=ttyS0 panic=-1 quiet mitigations=off systemd.unified_cgroup_hierarchy=1 {masked}"
    command = [
        *("setpriv", "--pdeathsig=KILL", "qemu-system-x86_64"),
        *("-accel", "tcg,thread=multi", "-cpu", "max", "-M", "q35", "-m", "1024"),
        *("-smp", "2", "-display", "none", "-no-reboot", "-nic", "none"),
        *("-kernel", str(image), "-initrd", str(place / "initrd"), "-append", words),
        *("-drive", f"file={place}/disk,if=virtio,format=raw,cache=unsafe"),
        *("-serial", f"file:{place}/console"),
        *("-chardev", f"socket,id=channel,path={place}/channel,server=on,wait=off"),
        *("-serial", "chardev:channel"),
    ]
    with (place / "qemu.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait(30)


def _make_image(root: Path, image: Path) -> None:
    with image.open("wb") as file:
        file.truncate(3 << 30)
    options = ["-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard"]
    subprocess.run(["mkfs.ext4", "-q", "-F", *options, "-d", str(root), str(image)], check=True)


def _make_initrd(unpacked: Path, initrd: Path) -> None:
    (modules,) = (unpacked / "lib/modules").iterdir()
    if not (modules / "modules.dep").exists():
        subprocess.run(["depmod", "-b", str(unpacked), modules.name], check=True)
    with tempfile.TemporaryDirectory(prefix="pb-initrd-", dir="/tmp") as name:
        place = Path(name)
        for directory in ("bin", "modules", "new", "proc", "sys", "dev"):
            (place / directory).mkdir()
        shutil.copy(str(shutil.which("busybox")), place / "bin/busybox")
        (place / "bin/sh").symlink_to("busybox")
        (place / "init").write_text(INIT)
        (place / "init").chmod(0o755)
        order: dict[str, None] = {}
        for module in MODULES:
            for path in _with_needs(modules, module):
                shutil.copy(modules / path, place / "modules" / Path(path).name)
                order[Path(path).name] = None
        (place / "modules/order").write_text("\n".join(order))
        archive = f"find . | cpio --quiet -o -H newc | gzip -1 > {initrd}"
        subprocess.run(["sh", "-c", archive], cwd=place, check=True)


def _with_needs(modules: Path, module: str) -> list[str]:
    """The file of a module after those that it needs; nothing if it is built into the kernel."""
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        if Path(path).name.partition(".")[0] == module:
            return [*reversed(needs.split()), path]
    return []
