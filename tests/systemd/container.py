"""A guest in a container: a real systemd as PID 1, in about a second, without the controllers of limits."""

import contextlib
import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.systemd.guest import Guest
from tests.systemd.privileges import cgroup_mount
from tests.systemd.trees import CannotMakeError, copy_source, overlay, run, tree, wheels
from tests.waiting import eventually

_numbers = itertools.count()

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
"""The environment in which `make install` takes what it would fetch from /wheels: a guest has no network."""

# One that runs is not told to the systemd of the machine, if there is one, and has no network.
OPTIONS = ("--quiet", "--register=no", "--keep-unit", "--link-journal=no", "--private-network")
PLAIN = ("--resolv-conf=off", "--timezone=off")


def installed(root: Path, needed: Path) -> None:
    """As the how-to page says, in a tree that is not booted yet."""
    copy_source(root / "src")
    place = [f"--directory={root}", f"--bind-ro={needed}:/wheels"]
    inside = ["systemd-nspawn", *OPTIONS, *PLAIN, "--pipe", *place]
    offline = [f"--setenv={name}={value}" for name, value in OFFLINE.items()]
    try:
        run([*inside, *offline, "make", "-C", "/src", "install"])
        run([*inside, "useradd", "--system", "shop"])
    except CannotMakeError as error:
        # Here it is not the surroundings that fail, but what is tested.
        raise AssertionError(str(error)) from error


@contextlib.contextmanager
def booted(suite: str) -> Iterator[Guest]:
    """A booted container of a release, with the checkout in /src, installed as the how-to page says."""
    needed = wheels(suite)
    with overlay(tree(suite)) as root:
        copy_source(root / "src")
        channel = root.parent / "channel"
        channel.mkdir()
        with _running(root, channel, needed) as process, socket.socket(socket.AF_UNIX) as line:
            path = channel / "agent"
            eventually(lambda: path.exists() or process.poll() is not None, 120, "the guest boots")
            eventually(lambda: line.connect_ex(str(path)) == 0, 30, f"the agent answers on {path}")
            guest = Guest(line, 1.0, root.parent / "console")
            guest.greet()
            guest.run("make", "-C", "/src", "install", seconds=600, environment=OFFLINE)
            guest.run("useradd", "--system", "shop")
            yield guest


@contextlib.contextmanager
def _running(root: Path, channel: Path, needed: Path) -> Iterator[subprocess.Popen[bytes]]:
    mount = cgroup_mount()
    assert mount is not None
    name = f"pitboss-{os.getpid()}-{next(_numbers)}"
    group = mount / name
    group.mkdir()
    own = [f"--machine={name}", f"--directory={root}"]
    binds = [f"--bind={channel}:/channel", f"--bind-ro={needed}:/wheels"]
    command = ["systemd-nspawn", "--boot", "--console=pipe", *OPTIONS, *PLAIN, *own, *binds]
    # It moves itself into the group and stays there: whatever the guest starts ends with the group. If this
    # process is killed it ends too, and the guest with it.
    join = ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(group)]
    joined = ["setpriv", "--pdeathsig=KILL", *join, *command]
    with (root.parent / "console").open("wb") as console:
        process = subprocess.Popen(
            joined,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            start_new_session=True,
        )
        try:
            yield process
        finally:
            (group / "cgroup.kill").write_text("1")
            process.wait(30)
            eventually(
                lambda: "populated 0" in (group / "cgroup.events").read_text(), 30, "the guest is gone"
            )
            for directory, _, _ in os.walk(group, topdown=False):
                os.rmdir(directory)
