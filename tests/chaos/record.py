"""What the workers wrote, what the kernel showed and what the storm did, put together as one story."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.chaos.pools import BY_NAME, Shape


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a worker."""

    at: float
    what: str
    instance: str
    generation: int
    pid: int
    role: str
    facts: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        said = " ".join(f"{name}={value}" for name, value in self.facts.items())
        return f"{self.at:.3f} {self.what} {self.instance} generation {self.generation} pid {self.pid} {said}"


def parse(text: str) -> Line:
    """Read one line; raises ValueError for what is none."""
    at, what, instance, generation, pid, role, *facts = text.split(" ")
    named = dict(fact.split("=", 1) for fact in facts)
    return Line(float(at), what, instance, int(generation), int(pid), role, named)


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that the storm did, or saw of the kernel: it happened between `at` and `until`."""

    at: float
    until: float
    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        said = " ".join(f"{name}={value}" for name, value in self.facts.items())
        return f"{self.at:.3f} … {self.until:.3f} {self.kind} {said}"

    def __getitem__(self, name: str) -> Any:
        return self.facts.get(name)

    def touches(self, instance: str) -> bool:
        """Whether a wish is about this instance."""
        pool, _, index = instance.partition("/")
        named_pool, named_index = self["pool"], self["index"]
        return named_pool in {None, pool} and named_index in {None, int(index)}


@dataclass(slots=True)
class Process:
    """One process of a generation, by its own word; `gone_at` is the kernel's, and never too early."""

    instance: str
    generation: int
    role: str
    pid: int
    began_at: float
    spawned_at: float
    daemon: int
    lock: str
    lines: list[Line] = field(default_factory=list)
    gone_at: float | None = None

    @property
    def pool(self) -> str:
        """Its pool."""
        return self.instance.partition("/")[0]

    @property
    def shape(self) -> Shape:
        """What is expected of its pool."""
        return BY_NAME[self.pool]

    def first(self, what: str) -> Line | None:
        """The first line of this kind."""
        return next((line for line in self.lines if line.what == what), None)

    @property
    def ready_at(self) -> float | None:
        """When it was ready."""
        line = self.first("ready")
        return line.at if line else None

    @property
    def counted_ready_at(self) -> float | None:
        """When the daemon may count it as ready: by its word, or by its uptime where that is what counts.

        A worker that the storm holds while it begins is up all the time, and says so later.
        """
        if self.shape.readiness != "uptime":
            return self.ready_at
        up_at = self.spawned_at + self.shape.boot_seconds
        if self.gone_at is not None and self.gone_at < up_at:
            return self.ready_at
        return up_at if self.ready_at is None else min(up_at, self.ready_at)

    @property
    def exit(self) -> Line | None:
        """Its own announcement of its end; none if it vanished."""
        return self.first("exit")

    @property
    def last_sign(self) -> float:
        """The latest moment at which it is known to have lived."""
        return self.lines[-1].at

    def told(self, *names: str) -> list[Line]:
        """The signals that came from the daemon, of these names (by default those that ladders use)."""
        return [
            line
            for line in self.lines
            if line.what == "signal"
            and int(line.facts["sender"]) == self.daemon
            and line.facts["name"] in (names or ("SIGTERM", "SIGUSR1"))
        ]

    @property
    def open_task(self) -> Line | None:
        """The task that was begun and never done."""
        tasks = [line for line in self.lines if line.what in {"begun", "done"}]
        return tasks[-1] if tasks and tasks[-1].what == "begun" else None


UNANSWERED = {0, 69}
"""No answer in time, over HTTP and by pitbossctl: the wish may have been taken."""

GOALS = {"drain": "drained", "stop": "down", "resume": "up", "start": "up"}


class Story:
    """One life of the daemon, from its start to its end (or to now)."""

    def __init__(self, lines: Iterable[Line], deeds: Iterable[Deed], ended_at: float) -> None:
        self.lines = sorted(lines, key=lambda line: line.at)
        self.deeds = sorted(deeds, key=lambda deed: deed.at)
        self._by_kind: dict[str, list[Deed]] = {}
        for deed in self.deeds:
            self._by_kind.setdefault(deed.kind, []).append(deed)
        self.ended_at = ended_at
        """Until when there is a record."""
        self.processes = self._processes()

    def _processes(self) -> list[Process]:
        living: dict[tuple[str, int, int], Process] = {}
        for line in self.lines:
            key = (line.instance, line.generation, line.pid)
            if line.what == "began":
                facts = line.facts
                living[key] = Process(
                    line.instance,
                    line.generation,
                    line.role,
                    line.pid,
                    line.at,
                    float(facts["spawned"]),
                    int(facts["daemon"]),
                    facts.get("lock", ""),
                )
            if key in living:
                living[key].lines.append(line)
        for deed in self.of("gone"):
            key = (deed["instance"], deed["generation"], deed["pid"])
            if key in living:
                living[key].gone_at = deed.at
        return list(living.values())

    def of(self, *kinds: str) -> list[Deed]:
        """The deeds of these kinds."""
        return [deed for kind in kinds for deed in self._by_kind.get(kind, ())]

    @cached_property
    def mains(self) -> list[Process]:
        """The main processes."""
        return [process for process in self.processes if process.role == "main"]

    @cached_property
    def by_instance(self) -> dict[str, list[Process]]:
        """The main processes of each instance, in the order in which they began."""
        found: dict[str, list[Process]] = {}
        for process in self.mains:
            found.setdefault(process.instance, []).append(process)
        return found

    @cached_property
    def wishes(self) -> list[Deed]:
        """What operators asked for."""
        return self.of("wish")

    def wishes_for(self, instance: str, *verbs: str) -> list[Deed]:
        """The wishes about an instance, of these verbs (all by default)."""
        return [
            wish for wish in self.wishes if wish.touches(instance) and (not verbs or wish["verb"] in verbs)
        ]

    def storm_kill(self, process: Process) -> Deed | None:
        """The SIGKILL of the storm that ended this process, if one did."""
        return next((deed for deed in self.of("kill") if self._is_about(deed, process)), None)

    @staticmethod
    def _is_about(deed: Deed, process: Process) -> bool:
        named = (deed["instance"], deed["generation"], deed["pid"])
        return named == (process.instance, process.generation, process.pid)

    def delayed_seconds(self, since: float, until: float, *, times: int = 3) -> float:
        """How much later things may be in this time: the daemon was held still, or had no processor.

        What the daemon had to wait for, workers and the watch had to wait for too, one after the other.
        """
        frozen = sum(
            max(0.0, min(deed.until, until) - max(deed.at, since)) for deed in self.of("freeze-daemon")
        )
        waited = sum(
            float(deed["waited"]) for deed in self.of("sample") if deed.until > since and deed.at < until
        )
        return frozen + times * waited

    def was_held(self, process: Process, since: float, until: float) -> bool:
        """Whether the storm held this process still at some moment of this time."""
        return any(
            self._is_about(deed, process) and deed.at <= until and deed.until >= since
            for deed in self.of("hold")
        )

    def goal(self, instance: str, at: float) -> str:
        """Where the operators want it: `unknown` where two wishes met, or one has not been answered."""
        goal, answered_at = "up", 0.0
        for wish in sorted(self.wishes_for(instance, *GOALS), key=lambda wish: wish.until):
            if wish.at > at or wish["status"] not in {202, *UNANSWERED}:
                continue
            if wish.until > at:
                return "unknown"
            verb = wish["verb"]
            kept = (verb == "start" and goal == "drained") or (verb == "drain" and goal == "down")
            if wish["status"] in UNANSWERED or (wish.at < answered_at and goal != GOALS[verb]):
                goal = "unknown"
            elif not kept:
                goal = GOALS[verb]
            answered_at = wish.until
        return goal

    def alive_at(self, at: float) -> list[Process]:
        """Those that lived at this moment by the kernel's word."""
        return [
            process
            for process in self.processes
            if process.began_at <= at and (process.gone_at is None or process.gone_at > at)
        ]


def read_lines(path: Path) -> list[Line]:
    """The record of the workers; a line that cannot be read is an error of the harness."""
    if not path.exists():
        return []
    return [parse(line) for line in path.read_text().splitlines()]


def write_deed(path: Path, deed: Deed) -> None:
    """Append one deed to a file."""
    entry = {"at": deed.at, "until": deed.until, "kind": deed.kind, **deed.facts}
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")


def read_deeds(path: Path) -> list[Deed]:
    """The deeds of a file."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        entry = json.loads(line)
        found.append(Deed(entry.pop("at"), entry.pop("until"), entry.pop("kind"), entry))
    return found
