"""The pools of the storm: fifty instances of different kinds, and what may be expected of each."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.commands import PYTHON

WORKER = Path(__file__).resolve().parent / "worker.py"

TERM_TERM = (("SIGTERM", "main", 4.0), ("SIGTERM", "all", 2.0))
"""Tasks take less than the first window: whoever has heard the first signal loses nothing."""

SWEEP_SECONDS = 5.2
KILL_SECONDS = 5.0
"""What the documentation of the stop ladder says about its last rungs."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One pool: what the manifest says of it, in numbers, and how its worker behaves."""

    name: str
    instances: int
    options: dict[str, str] = field(default_factory=dict)
    stages: tuple[tuple[str, str, float], ...] = TERM_TERM
    readiness: str = "uptime"
    liveness: bool = False
    watchdog: bool = False
    boot_seconds: float = 0.3
    drain: dict[str, Any] | None = None
    settle_seconds: float = 0.0
    window_seconds: float = 0.0
    depends_on: dict[str, str] = field(default_factory=dict)
    initial_seconds: float = 0.2
    factor: float = 2.0
    max_seconds: float = 1.5
    reset_after_seconds: float = 5.0
    give_up: tuple[int, float] | None = None
    max_unavailable: int = 1
    min_ready_seconds: float = 0.5
    task: bool = False
    limited: bool = False
    """It has a limit, so that its workers are begun by the daemon's starter."""
    quiet: bool = False
    """Nobody wishes anything of it, and nobody hinders its starts."""

    @property
    def stubborn(self) -> bool:
        """Whether it ignores the signals that ask it to end."""
        return "stubborn" in self.options

    @property
    def crash_prone(self) -> bool:
        """Whether it ends by itself now and then."""
        return "crash" in self.options

    @property
    def graces_seconds(self) -> float:
        """All grace windows of the stages."""
        return sum(grace for _, _, grace in self.stages)

    @property
    def stop_seconds(self) -> float:
        """How long a stop may take at most, without those that it waits for."""
        before = max(self.settle_seconds + self.window_seconds, self.boot_seconds)
        return before + self.graces_seconds + SWEEP_SECONDS + KILL_SECONDS

    def backoff_seconds(self, failures: int) -> float:
        """The wait after so many failures in a row."""
        return float(min(self.max_seconds, self.initial_seconds * self.factor ** (failures - 1)))


SHAPES = (
    Shape("plain", 8, limited=True),
    Shape("notify", 6, {"reports": "1", "watchdog": "1"}, readiness="notify", watchdog=True),
    Shape("http", 4, readiness="http", liveness=True),
    Shape("exec", 3, readiness="exec"),
    Shape(
        "drainer", 5, {"task": "0.5-2.0"}, drain={"signal": "SIGUSR1"}, readiness="notify", window_seconds=5.0
    ),
    Shape(
        "settler",
        3,
        {"says_drained": "1"},
        drain={"signal": "SIGUSR1"},
        settle_seconds=0.7,
        window_seconds=4.0,
        readiness="notify",
    ),
    Shape("forker", 4, {"family": "1"}, limited=True),
    Shape(
        "stubborn",
        2,
        {"stubborn": "1"},
        stages=(("SIGTERM", "main", 1.5), ("SIGTERM", "all", 1.5)),
    ),
    Shape("crashy", 4, {"crash": "0.7"}, give_up=(6, 9.0), limited=True),
    Shape("migrate", 1, {"completes": "1", "fails": "1"}, task=True, quiet=True),
    Shape("db", 2, readiness="notify", depends_on={"migrate": "completed"}),
    Shape("app", 3, {"reports": "1"}, depends_on={"db": "ready"}, drain={"notify": True}, window_seconds=3.0),
    Shape("web", 4, readiness="notify", max_unavailable=2),
    Shape("metronome", 1, quiet=True),
)

BY_NAME = {shape.name: shape for shape in SHAPES}


def instances() -> list[str]:
    """Every instance of every pool."""
    return [f"{shape.name}/{index}" for shape in SHAPES for index in range(shape.instances)]


@dataclass(frozen=True, slots=True)
class Places:
    """Where one storm keeps what."""

    root: Path

    @property
    def record(self) -> Path:
        """What the workers write."""
        return self.root / "workers.record"

    def folder(self, name: str) -> Path:
        """A directory that the workers may write to."""
        made = self.root / name
        made.mkdir(exist_ok=True)
        made.chmod(0o777)
        return made

    def program(self, pool: str) -> Path:
        """The command of a pool: a link to Python that can be taken away."""
        return self.folder("bin") / pool

    def calm(self) -> Path:
        """While this file exists, nobody crashes by himself."""
        return self.root / "calm"


def _probe(shape: Shape, places: Places) -> dict[str, Any]:
    files = places.folder("files")
    if shape.readiness == "http":
        socket = f"{files}/{{{{ pool }}}}-{{{{ index }}}}"
        return {"http": {"url": "http://worker/", "unix_socket": socket}}
    return {
        "exec": ["/usr/bin/test", "-e", f"{files}/ready-{{{{ pool }}}}-{{{{ index }}}}-{{{{ generation }}}}"]
    }


def _drain(shape: Shape, places: Places) -> dict[str, Any]:
    drain: dict[str, Any] = {
        **(shape.drain or {}),
        "settle": shape.settle_seconds,
        "window": shape.window_seconds,
    }
    if "signal" in drain and "says_drained" not in shape.options:
        idle = f"{places.folder('files')}/idle-{{{{ pool }}}}-{{{{ index }}}}-{{{{ generation }}}}"
        drain["until"] = {"exec": ["/usr/bin/test", "-e", idle]}
    return drain


LIMITS_OF_A_RECRUIT = {"fsize": "1GiB"}
"""The daemon does not take it on for a moment: such a worker comes from the starter."""


def pool(shape: Shape, places: Places, seed: int) -> dict[str, Any]:
    """The entry of the manifest."""
    options = {
        "boot": str(shape.boot_seconds),
        "ready": shape.readiness,
        "files": str(places.folder("files")),
        "calm": str(places.calm()),
        "seed": str(seed),
        **shape.options,
    }
    entry: dict[str, Any] = {
        "command": [
            str(places.program(shape.name)),
            "-I",
            "-S",
            str(WORKER),
            str(places.record),
            str(places.folder("locks")),
            *(f"{name}={value}" for name, value in options.items()),
        ],
        "instances": shape.instances,
        **({"limits": LIMITS_OF_A_RECRUIT} if shape.limited else {}),
        "startup": {"timeout": "60s", "min_uptime": shape.boot_seconds},
        "stop": {
            "stages": [
                {"signal": signal, "target": target, "grace": grace} for signal, target, grace in shape.stages
            ]
        },
        "restart": {
            "backoff": {
                "initial": shape.initial_seconds,
                "factor": shape.factor,
                "max": shape.max_seconds,
                "jitter": "none",
                "reset_after": shape.reset_after_seconds,
            }
        },
    }
    if shape.task:
        return {**entry, "kind": "task"}
    entry["rollout"] = {
        "max_unavailable": shape.max_unavailable,
        "min_ready": shape.min_ready_seconds,
        "progress_deadline": "45s",
    }
    if shape.give_up:
        entry["restart"]["give_up"] = {"starts": shape.give_up[0], "within": shape.give_up[1]}
    if shape.depends_on:
        entry["depends_on"] = dict(shape.depends_on)
    if shape.readiness == "notify":
        entry["readiness"] = {"notify": True}
    elif shape.readiness != "uptime":
        entry["readiness"] = {**_probe(shape, places), "period": "500ms", "failure_threshold": 6}
    if shape.liveness:
        entry["liveness"] = {**_probe(shape, places), "period": "1s", "timeout": "1s"}
    if shape.watchdog:
        entry["watchdog"] = "4s"
    if shape.drain:
        entry["drain"] = _drain(shape, places)
    return entry


def manifest(places: Places, seed: int, logs: Path) -> dict[str, Any]:
    """The whole manifest; every command is a link that is made here."""
    for shape in SHAPES:
        link = places.program(shape.name)
        link.unlink(missing_ok=True)
        link.symlink_to(Path(PYTHON[0]).resolve())
    return {
        "shutdown": {"deadline": "90s"},
        "defaults": {"logs": {"directory": str(logs), "max_bytes": "64KiB", "keep": 1}},
        "pools": {shape.name: pool(shape, places, seed) for shape in SHAPES},
    }
