"""The map of phases and the matrix of every event in every phase, both told by the core itself.

The diagram is `LEGAL_MOVES`. For the matrix a host is brought into each phase by the events that lead
there, each event is given to it, and the cell says what changed: so it cannot say what is not so.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy

from supervisor.core.effects import Act, Check, Effect, Forget, Kill, Refused, Signal, Spawn
from supervisor.core.events import (
    Booted,
    CheckFailed,
    CheckKind,
    CheckPassed,
    DrainRequested,
    Event,
    Exited,
    MainMoved,
    RestartRequested,
    ResumeRequested,
    Scope,
    ShutdownRequested,
    SignalRequested,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    Tick,
    Told,
    TreeGone,
    Urgency,
    Wish,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.host import next_deadline, step
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import LEGAL_MOVES, Phase
from supervisor.core.plan import (
    Condition,
    DrainPolicy,
    HostPlan,
    PoolPlan,
    ProbePolicy,
    Readiness,
    RestartPolicy,
    RestartRules,
)
from supervisor.core.state import Host, create

A = InstanceId("a", 0)
WISH = Wish(Scope("a"), "wish")
PROBE = ProbePolicy(failure_threshold=1)


def _host(*, restart: RestartPolicy = RestartPolicy.ALWAYS) -> Host:
    pool = PoolPlan(
        "a",
        depends_on={"gate": Condition.READY},
        readiness=Readiness.PROBE,
        readiness_probe=PROBE,
        liveness_probe=PROBE,
        watchdog_seconds=30.0,
        drain=DrainPolicy(signal="SIGUSR1"),
        restart=RestartRules(restart),
    )
    return create(HostPlan("host", {"gate": PoolPlan("gate"), "a": pool}))


class _Story:
    """A host that is told one thing after another, at times of its own."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.now = 0.0

    def tell(self, *events: Event) -> tuple[Effect, ...]:
        """Each event in turn; the effects of the last."""
        effects: tuple[Effect, ...] = ()
        for event in events:
            self.now += 0.001
            effects = step(self.host, event, self.now)
        return effects

    def wait(self) -> tuple[Effect, ...]:
        """Until the instance's deadline is due; the effects of that moment."""
        deadline = self.host.instances[A].deadline
        if deadline is None:
            return ()
        effects: list[Effect] = []
        while (moment := next_deadline(self.host)) is not None and moment <= deadline:
            self.now = max(self.now, moment)
            effects.extend(step(self.host, Tick(), self.now))
        return tuple(effects)


def _up_to_the_gate() -> _Story:
    story = _Story(_host())
    story.tell(Booted(), Tick())
    return story


def _open_gate(story: _Story) -> _Story:
    story.tell(Spawned(InstanceId("gate", 0), 1, 10))
    story.now += 1.0
    story.tell(Tick())
    return story


def in_phase(phase: Phase, *, spawned: bool = True) -> _Story:
    """A story that has come to this phase; `spawned` says whether STARTING has a process already."""
    story = _up_to_the_gate()
    if phase is Phase.PENDING:
        return story
    _open_gate(story)
    if phase is Phase.STARTING:
        if spawned:
            story.tell(Spawned(A, 1, 11))
        return story
    if phase in {Phase.BACKOFF, Phase.FAILED}:
        if phase is Phase.FAILED:
            story = _Story(_host(restart=RestartPolicy.NEVER))
            story.tell(Booted(), Tick())
            _open_gate(story)
        story.tell(Spawned(A, 1, 11), Exited(A, 1, ExitStatus(code=1)))
        return story
    story.tell(Spawned(A, 1, 11), CheckPassed(A, 1, CheckKind.READINESS))
    if phase is Phase.RUNNING:
        return story
    story.tell(StopRequested(Wish(Scope("a"), "before")))
    if phase is Phase.STOPPED:
        story.tell(Exited(A, 1, ExitStatus(code=0)))
    while story.host.instances[A].phase is not phase:
        story.wait()
    return story


FACTS: dict[str, Event | None] = {
    "spawned": Spawned(A, 1, 11),
    "spawn failed": SpawnFailed(A, 1, "cannot run it"),
    "exited": Exited(A, 1, ExitStatus(code=1)),
    "exited, leftovers": Exited(A, 1, ExitStatus(code=1), leftovers=1),
    "tree gone": TreeGone(A, 1),
    "main moved": MainMoved(A, 1, 12),
    "readiness passed": CheckPassed(A, 1, CheckKind.READINESS),
    "readiness failed": CheckFailed(A, 1, CheckKind.READINESS, "no"),
    "liveness failed": CheckFailed(A, 1, CheckKind.LIVENESS, "no"),
    "drained": Told(A, 1, drained=True),
    "stopping": Told(A, 1, stopping=True),
    "more time": Told(A, 1, extend_seconds=60.0),
    "watchdog trigger": Told(A, 1, watchdog_trigger=True),
    "deadline": None,
}
WISHES: dict[str, Event | None] = {
    "start": StartRequested(WISH),
    "resume": ResumeRequested(WISH),
    "drain": DrainRequested(WISH),
    "stop": StopRequested(WISH),
    "stop --now": StopRequested(WISH, Urgency.NOW),
    "stop --kill": StopRequested(WISH, Urgency.KILL),
    "restart": RestartRequested(WISH),
    "signal": SignalRequested(WISH, "SIGHUP"),
    "shutdown": ShutdownRequested(Wish(Scope(), "end")),
}


def cell(phase: Phase, name: str, event: Event | None) -> str:
    """What the event does to an instance in the phase."""
    story = in_phase(phase, spawned=name not in {"spawned", "spawn failed"})
    before = story.host.instances[A]
    if phase is Phase.STUCK and name == "tree gone":
        # It follows only an exit whose tree stayed behind.
        story.tell(Exited(A, 1, ExitStatus(signal="SIGKILL"), leftovers=1))
    effects = story.wait() if event is None else story.tell(deepcopy(event))
    return _described(before, story.host.instances[A], effects)


def _described(before: Instance, after: Instance, effects: tuple[Effect, ...]) -> str:
    refused = next((effect for effect in effects if isinstance(effect, Refused)), None)
    if refused is not None:
        return f"refused: {refused.kind}"
    words: list[str] = []
    if after.phase is not before.phase:
        words.append(f"→ {after.phase}")
    elif after.rung != before.rung and after.rung is not None:
        words.append(f"↑ {after.rung.name}")
    words.extend(_acts(effects))
    if after.ready != before.ready and after.phase is before.phase:
        words.append("ready" if after.ready else "unready")
    if after.goal is not before.goal:
        words.append(f"goal {after.goal}")
    if not words and after != before:
        words.append("noted")
    return ", ".join(words) or "–"


def _acts(effects: tuple[Effect, ...]) -> Iterator[str]:
    acts: list[Act] = [effect for effect in effects if isinstance(effect, Act)]
    for act in acts:
        match act:
            case Signal(instance=instance, signal=signal, target=target) if instance == A:
                yield f"{signal} {target}"
            case Kill():
                yield "kill all"
            case Spawn(instance=instance) if instance == A:
                yield "spawn"
            case Check() | Forget():
                continue
            case _:
                continue


def diagram() -> str:
    """The phases and the legal moves between them."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> pending"]
    for source, targets in LEGAL_MOVES.items():
        lines.extend(f"    {source} --> {target}" for target in Phase if target in targets)
    return "\n".join([*lines, "```", ""])


def _table(title: str, events: dict[str, Event | None]) -> list[str]:
    rows = [
        f"| {title} | " + " | ".join(f"`{phase}`" for phase in Phase) + " |",
        "|" + "---|" * (len(Phase) + 1),
    ]
    for name, event in events.items():
        rows.append(f"| {name} | " + " | ".join(cell(phase, name, event) for phase in Phase) + " |")
    return rows


def matrix() -> str:
    """Two tables: what the world says, and what operators wish."""
    return "\n".join([*_table("fact", FACTS), "", *_table("wish", WISHES), ""])


OUTPUTS: dict[str, Callable[[], str]] = {
    "docs/explanation/life-cycle.md#diagram": diagram,
    "docs/explanation/life-cycle.md#matrix": matrix,
}
