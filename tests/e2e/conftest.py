"""A daemon for a test, ended with it."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.disk import Device, Disk, mount


@pytest.fixture
def daemon() -> Iterator[Callable[..., Daemon]]:
    """Make and start daemons; all of them are ended when the test is over."""
    made: list[Daemon] = []

    def make(manifest: Mapping[str, Any], *, start: bool = True, **options: Any) -> Daemon:
        one = Daemon(manifest, **options)
        made.append(one)
        return one.start() if start else one

    yield make
    for one in made:
        one.close()


@pytest.fixture
def disk() -> Iterator[Disk]:
    """A small file system; gone after the test. Asked for before `daemon`, it outlives the daemon."""
    made = mount(Path(tempfile.mkdtemp(prefix="pb-disk-", dir="/tmp")))
    if isinstance(made, str):
        pytest.skip(made)
    yield made
    made.close()


@pytest.fixture
def device() -> Iterator[Device]:
    """A file system that can break down; gone after the test. Asked for before `daemon`, it outlives it."""
    if shutil.which("mkfs.ext4") is None and not os.environ.get("CI"):
        pytest.skip("needs the package e2fsprogs")
    made = Device(Path(tempfile.mkdtemp(prefix="pb-device-", dir="/tmp")))
    why = made.mount()
    if why:
        made.close()
        pytest.skip(f"a file cannot be mounted as a file system here: {why}")
    yield made
    made.close()
