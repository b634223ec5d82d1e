"""The same world and checkers, driven by Hypothesis: verbs and faults in any order.

If a promise breaks, it gives the shortest story that breaks it.
"""

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from supervisor.core.events import Booted, Event, Scope
from supervisor.core.exits import ExitStatus
from tests.simulation.kernel import Tree
from tests.simulation.wishes import VERBS
from tests.simulation.world import World

PAUSES = st.sampled_from([0.0, 0.2, 1.0, 5.0, 31.0])
STATUSES = st.sampled_from(
    [ExitStatus(code=0), ExitStatus(code=1), ExitStatus(code=78), ExitStatus(signal="SIGSEGV")]
)
WORDS = st.sampled_from(
    [
        {"ready": True},
        {"reloading": True},
        {"stopping": True},
        {"drained": True},
        {"in_flight": 0},
        {"in_flight": 3},
        {"extend_seconds": 1e9},
        {"watchdog_trigger": True},
    ]
)


class OneHost(RuleBasedStateMachine):
    """A host under an operator and faults; the checkers judge each step, and the end is a liveness phase."""

    world: World

    @initialize(seed=st.integers(1, 50))
    def boot(self, seed: int) -> None:
        """The plan and the processes' characters come from a seed, the story from the rules."""
        self.world = World(seed)
        self.world.mischief = False
        self.world.post(Booted())
        self.world.booted = True
        self.world.run_until(self.world.now)

    @property
    def living(self) -> list[Tree]:
        """The trees whose main process lives."""
        return [trees[-1] for trees in self.world.kernel.trees.values() if trees[-1].main_alive]

    @rule(seconds=PAUSES)
    def time_passes(self, seconds: float) -> None:
        """Deadlines fall, processes do what they do."""
        self.world.run_until(self.world.now + seconds)

    @rule(
        verb=st.sampled_from([*VERBS, "stop-kill", "stop-now", "restart-failed", "shutdown"]),
        pick=st.integers(0, 99),
    )
    def somebody_wishes(self, verb: str, pick: int) -> None:
        """Any verb, for an instance, a pool or the host, whatever was wished for before."""
        scopes = [Scope(), *(Scope(name) for name in self.world.plan.pools)]
        scopes += [Scope(key.pool, key.index) for key in self.world.host.instances]
        scope = Scope() if verb == "shutdown" else scopes[pick % len(scopes)]
        self.world.ask(self.world.operator.wish(verb, scope))

    @precondition(lambda self: self.living)
    @rule(pick=st.integers(0, 99), status=STATUSES)
    def somebody_dies(self, pick: int, status: ExitStatus) -> None:
        """A main process ends by itself."""
        living = self.living
        self.world.kernel.crash(living[pick % len(living)], status)

    @precondition(lambda self: self.living)
    @rule(pick=st.integers(0, 99), words=WORDS)
    def somebody_speaks(self, pick: int, words: dict[str, bool | int | float]) -> None:
        """A worker says something, to the point or not."""
        living = self.living
        self.world.kernel.say(living[pick % len(living)], **words)

    @precondition(lambda self: self.world.delivered)
    @rule(pick=st.integers(0, 99))
    def something_old_is_told_again(self, pick: int) -> None:
        """A fact is repeated, now or long after."""
        told: list[Event] = list(self.world.delivered)
        self.world.again(told[pick % len(told)])

    def teardown(self) -> None:
        """Faults stop, and every goal is reached."""
        if hasattr(self, "world"):
            self.world.end()


TestOneHost = OneHost.TestCase
TestOneHost.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    # Without `explain`, which runs a failing example over and over under a tracer.
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
