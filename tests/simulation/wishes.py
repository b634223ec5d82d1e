"""Random wishes of an operator who repeats himself and changes his mind at awkward moments."""

from dataclasses import dataclass, field
from random import Random

from supervisor.core.events import (
    AbortRequested,
    DrainRequested,
    OperationWish,
    OperatorWish,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    Scope,
    ShutdownRequested,
    SignalRequested,
    StartRequested,
    StopRequested,
    UnpauseRequested,
    Urgency,
    Wish,
)
from supervisor.core.plan import HostPlan

VERBS = (
    "drain",
    "resume",
    "stop",
    "start",
    "restart",
    "restart",
    "signal",
    "abort",
    "pause",
    "unpause",
    "drain-by",
    "nonsense",
)

STORIES = (
    ("drain", "resume"),
    ("drain", "resume", "stop", "start", "restart", "abort"),
    ("restart", "pause", "unpause"),
    ("restart", "abort", "restart"),
    ("restart", "drain", "resume"),
    ("restart", "start"),
    ("restart", "restart-failed"),
    ("drain", "start"),
    ("stop", "drain", "start"),
    ("stop", "stop-now", "stop-kill"),
    ("drain", "drain-by", "drain-by"),
    ("stop-kill", "start"),
)


@dataclass
class Operator:
    """Makes wishes; remembers the operations it was given so that it can steer them."""

    plan: HostPlan
    rng: Random
    operations: list[str] = field(default_factory=list)
    made: int = 0

    def scope(self) -> Scope:
        """The host, a pool or an instance."""
        rng = self.rng
        if rng.random() < 0.12:
            return Scope()
        name = rng.choice(list(self.plan.pools))
        if rng.random() < 0.5:
            return Scope(name)
        pool = self.plan.pools[name]
        # Sometimes one that there is only while a rollout needs it.
        extra = pool.rollout.max_surge if rng.random() < 0.2 else 0
        return Scope(name, rng.randrange(pool.instances + extra))

    def story(self, scope: Scope) -> list[OperatorWish | OperationWish]:
        """One wish, or several that contradict each other."""
        verbs = self.rng.choice(STORIES) if self.rng.random() < 0.4 else (self.rng.choice(VERBS),)
        return [self.wish(verb, scope) for verb in verbs]

    def fresh(self) -> str:
        """An id for an operation that was never used."""
        self.made += 1
        return f"op{self.made}"

    def wish(self, verb: str, scope: Scope) -> OperatorWish | OperationWish:
        """A wish of this kind for this scope."""
        rng = self.rng
        wish = Wish(scope, self.fresh(), f"request{self.made}", "sim")
        known = rng.choice(self.operations[-4:]) if self.operations else "op0"
        match verb:
            case "drain":
                return DrainRequested(wish)
            case "drain-by":
                return DrainRequested(wish, rng.choice([0.0, 5.0, 20.0, 60.0]))
            case "resume":
                return ResumeRequested(wish)
            case "start":
                return StartRequested(wish)
            case "stop":
                return StopRequested(wish, rng.choice([Urgency.NORMAL, Urgency.NORMAL, Urgency.NOW]))
            case "stop-now":
                return StopRequested(wish, Urgency.NOW)
            case "stop-kill":
                return StopRequested(wish, Urgency.KILL)
            case "restart" | "restart-failed":
                return RestartRequested(wish, only_failed=verb != "restart" or rng.random() < 0.1)
            case "abort":
                return AbortRequested(known, wish)
            case "pause":
                return PauseRequested(known, wish)
            case "unpause":
                return UnpauseRequested(known, wish)
            case "signal":
                name = rng.choice(["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGNOPE"])
                return SignalRequested(wish, name, everyone=rng.random() < 0.3)
            case "shutdown":
                urgency = rng.choice([Urgency.NORMAL, Urgency.NORMAL, Urgency.NOW, Urgency.KILL])
                return ShutdownRequested(wish, urgency, rng.choice([None, None, 0.0, 6.0, 30.0]))
            case _:
                return StopRequested(Wish(Scope("nowhere", 7), wish.operation))
