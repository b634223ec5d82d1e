"""Fixtures for tests with real processes."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from supervisor.runtime.cgroups import Cgroups, find_cgroups
from supervisor.runtime.children import start_child
from supervisor.runtime.starter import Starter
from supervisor.telemetry.unraisable import OVERTAKEN
from tests.proc import open_descriptors
from tests.runtime.ears import Ear, Sender
from tests.runtime.listeners import Listen, Listener, Prober, Story
from tests.runtime.process_harness import Stand, containment_of
from tests.waiting import async_eventually


@pytest.fixture(autouse=True)
def _overtaken_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a daemon, a SIGCHLD that was overtaken is no error; what else cannot be raised is one."""
    fails = sys.unraisablehook

    def hook(about: "sys.UnraisableHookArgs") -> None:
        if str(about.exc_value) != OVERTAKEN:
            fails(about)

    monkeypatch.setattr(sys, "unraisablehook", hook)


@pytest.fixture
def cgroups() -> Iterator[Cgroups]:
    """Control groups of this test alone."""
    found = find_cgroups(f"test-{os.getpid()}")
    if found is None:
        pytest.skip("no control groups may be made here")
    yield found
    found.close()
    assert not Path(found.directory).exists()


@pytest.fixture(params=["cgroup", "tags"])
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    """Processes, once with control groups and once without."""
    containment = containment_of(request.param)
    if containment is None:
        pytest.skip("no control groups may be made here")
    stand = Stand(containment)
    yield stand
    await stand.close()


@pytest.fixture
async def plain_stand() -> AsyncIterator[Stand]:
    """Processes without control groups."""
    containment = containment_of("tags")
    assert containment is not None
    stand = Stand(containment)
    yield stand
    await stand.close()


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    """A process that makes recruits, ready."""
    made = Starter()
    made.begin()
    made.settle(30)
    assert made.is_ready
    yield made
    made.close()


@pytest.fixture(params=["script", "recruit"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every child of the module that needs a helper is started in both ways."""
    if request.param == "script":
        yield "script"
        return
    starter = request.getfixturevalue("starter")
    monkeypatch.setattr(request.module, "start_child", partial(start_child, starter=starter))
    # A busy machine must not decide which of the two is tried.
    monkeypatch.setattr("supervisor.runtime.starter.WAIT_SECONDS", 30.0)
    monkeypatch.setattr("supervisor.runtime.starter.STALE_SECONDS", 30.0)
    yield "recruit"
    assert starter.is_ready


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A child of the test itself, in a session of its own, that nobody may touch; ask for it first."""
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield process
    assert process.poll() is None, "the bystander was touched"
    process.kill()
    process.wait()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path that other users can pass through."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    made.chmod(0o711)
    yield made / "notify"
    shutil.rmtree(made)


@pytest.fixture
async def ear(directory: Path) -> AsyncIterator[Ear]:
    """An ear that is closed again, and leaves no descriptor open."""
    before = open_descriptors()
    made = Ear(directory)
    yield made
    made.sockets.close()
    assert open_descriptors() == before


@pytest.fixture
def senders() -> Iterator[list[Sender]]:
    """Senders put into this list are ended."""
    made: list[Sender] = []
    yield made
    for one in made:
        one.end()


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    """A prober that leaves neither tasks nor descriptors behind."""
    before = open_descriptors()
    made = Prober()
    yield made
    await made.checks.close()
    await async_eventually(lambda: open_descriptors() == before)
    await async_eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})


@pytest.fixture
async def listen(prober: Prober) -> AsyncIterator[Listen]:
    """Start listeners that are closed again."""
    made: list[Listener] = []

    async def start(story: Story, **options: object) -> Listener:
        made.append(await Listener(story).start(**options))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for one in made:
        await one.close()
