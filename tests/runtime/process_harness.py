"""A stand for `Processes`: real processes, a real pipe for their output, and a list of what was posted."""

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from supervisor.core.effects import Cause, Forget, Kill, Signal, Spawn
from supervisor.core.events import Event, Exited, Spawned
from supervisor.core.identity import InstanceId
from supervisor.core.launch import Identity, Launch, LogPolicy
from supervisor.core.plan import Target
from supervisor.runtime.cgroups import find_cgroups
from supervisor.runtime.containment import Containment
from supervisor.runtime.processes import Processes
from supervisor.runtime.sockets import ListenSockets
from supervisor.runtime.starter import Starter
from supervisor.runtime.subreaper import become_subreaper
from tests.proc import is_alive
from tests.waiting import async_eventually


def _interpreter() -> str:
    """A Python that any user may run; the one of the tests may live in somebody's home."""
    for name in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            path = Path(name).resolve(strict=True)
            if all(part.stat().st_mode & 0o001 for part in (path, *path.parents)):
                return name
        except OSError:
            continue
    return sys.executable


PYTHON = _interpreter()
WORKERS = Path(__file__).resolve().parent.parent / "workers"
NOBODY = Identity("nobody", 65534, 65534, (65534, 12345))
ME = InstanceId("emails", 0)

E = TypeVar("E", bound=Event)


def worker(name: str, *arguments: object) -> tuple[str, ...]:
    """The command of a test worker."""
    return (PYTHON, "-I", "-S", str(WORKERS / name), *map(str, arguments))


def launch_of(*argv: str, **fields: Any) -> Launch:
    """A launch with a plain environment in the root directory."""
    fields = {
        "environment": {"PATH": os.defpath},
        "working_directory": "/",
        "logs": LogPolicy(None),
        **fields,
    }
    return Launch(argv=argv, **fields)


def containment_of(mode: str) -> Containment | None:
    """A containment with control groups, or with tags alone; None if this machine has no control groups."""
    if mode == "tags":
        return Containment(None)
    cgroups = find_cgroups("test-" + secrets.token_hex(4))
    return None if cgroups is None else Containment(cgroups)


async def reaped(pid: int) -> None:
    """Wait for the end of a process and reap it, if it is a child of this one and nobody else did."""

    def is_gone() -> bool:
        try:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
        except ChildProcessError:
            return not is_alive(pid)

    await async_eventually(is_gone, what=f"process {pid} has ended")


def _about(event: Any) -> tuple[InstanceId, int]:
    return event.instance, event.generation


class Pipes:
    """An output port with one pipe for each instance, read only when drained."""

    def __init__(self) -> None:
        self.text: dict[InstanceId, str] = {}
        self._pipes: dict[InstanceId, int] = {}

    def writer(
        self, instance: InstanceId, logs: LogPolicy, generation: int, *, owner: int | None = None
    ) -> int:
        """A descriptor of the pipe, open for reading and writing."""
        if instance not in self._pipes:
            reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            os.close(writing)
            self._pipes[instance] = reading
            self.text[instance] = ""
        return os.open(f"/proc/self/fd/{self._pipes[instance]}", os.O_RDWR | os.O_CLOEXEC)

    def drain(self, instance: InstanceId) -> None:
        """Take all there is."""
        try:
            while data := os.read(self._pipes[instance], 65536):
                self.text[instance] += data.decode()
        except BlockingIOError:
            return

    def tail(self, instance: InstanceId, lines: int) -> tuple[str, ...]:
        """The last lines."""
        return tuple(self.text[instance].splitlines()[-lines:])

    def close(self) -> None:
        """Close all pipes."""
        for descriptor in self._pipes.values():
            os.close(descriptor)


class Stand:
    """`Processes` with everything around it."""

    def __init__(
        self,
        containment: Containment,
        additions: Mapping[str, str] | None = None,
        *,
        starter: Starter | None = None,
    ) -> None:
        self.events: list[Event] = []
        self.launches: dict[InstanceId, Launch] = {}
        self.output = Pipes()
        self.containment = containment
        self.sockets = ListenSockets()
        become_subreaper()
        self.processes = Processes(
            self.events.append,
            lambda instance, _generation: self.launches[instance],
            self.output,
            lambda _instance, _generation, _launch: additions or {},
            containment,
            self.sockets,
            starter,
        )

    def spawn(self, launch: Launch, instance: InstanceId = ME, generation: int = 1) -> int:
        """Start a generation; the pid, or 0 if that failed."""
        self.launches[instance] = launch
        self.processes.spawn(Spawn(instance, generation, Cause.BOOT))
        event = self.events[-1]
        return event.pid if isinstance(event, Spawned) else 0

    def signal(
        self, name: str, target: Target = Target.MAIN, instance: InstanceId = ME, generation: int = 1
    ) -> None:
        """Send a signal."""
        self.processes.signal(Signal(instance, generation, name, target))

    def kill(self, instance: InstanceId = ME, generation: int = 1) -> None:
        """Kill a tree."""
        self.processes.kill(Kill(instance, generation))

    def forget(self, instance: InstanceId = ME, generation: int = 1) -> None:
        """Forget a generation."""
        self.processes.forget(Forget(instance, generation))

    def posted(self, kind: type[E], instance: InstanceId = ME, generation: int = 1) -> E | None:
        """The event of this kind about a generation, if it was posted."""
        for event in self.events:
            if isinstance(event, kind) and _about(event) == (instance, generation):
                return event
        return None

    async def until(self, kind: type[E], instance: InstanceId = ME, generation: int = 1) -> E:
        """Wait for an event about a generation."""
        event = await async_eventually(
            lambda: self.posted(kind, instance, generation), what=f"{kind.__name__} in {self.events}"
        )
        assert event is not None
        return event

    async def output_has(self, text: str, instance: InstanceId = ME) -> None:
        """Wait until an instance has written something."""

        def has() -> bool:
            self.output.drain(instance)
            return text in self.output.text[instance]

        await async_eventually(has, what=f"{text!r} in the output")

    async def close(self) -> None:
        """Kill all that lives and close everything."""
        for instance, generation in list(self.processes._lives):
            self.kill(instance, generation)
        await async_eventually(lambda: not self.processes._lives, what="all trees are gone")
        self.processes.close()
        become_subreaper(on=False)
        self.sockets.close()
        self.output.close()

    async def run(self, launch: Launch, instance: InstanceId = ME, generation: int = 1) -> Exited:
        """Start a generation and wait for its end."""
        assert self.spawn(launch, instance, generation), self.events
        return await self.until(Exited, instance, generation)
