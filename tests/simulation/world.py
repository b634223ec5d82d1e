"""One simulated host: virtual time, a fake kernel, an awkward operator, and the core between them.

Everything follows from the seed: first a safety phase with faults, then a liveness phase in which
faults stop and every goal has to be reached within a computed bound. After each step the checkers
judge, by the kernel's truth. A `Broken` promise carries the seed, the commit and the last moves.
"""

import heapq
import math
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from supervisor.core import host as core
from supervisor.core.effects import Accepted, Act, Effect, Moved
from supervisor.core.events import (
    BarrierReached,
    Booted,
    CarryOn,
    CheckFailed,
    CheckPassed,
    Event,
    OperationWish,
    OperatorWish,
    Scope,
    SignalRequested,
    Spawned,
    Tick,
    UnpauseRequested,
)
from supervisor.core.phases import Phase
from supervisor.core.plan import HostPlan
from supervisor.core.state import Host, OperationState, create
from tests.simulation.checkers import Checker, all_checkers
from tests.simulation.kernel import Kernel
from tests.simulation.plans import random_plan
from tests.simulation.trace import line
from tests.simulation.wishes import Operator
from tests.simulation.witness import Witness

MOVES_SHOWN = 30
SAFETY_SECONDS = 240.0
STEPS_LIMIT = 60_000
"""Far above what a host of this size does; more means that it spins."""

SPIN_LIMIT = 4_000
"""So many steps without time passing is a busy loop."""


class Broken(AssertionError):  # noqa: N818 - "the promise is broken" is the sentence this stands for
    """A promise does not hold."""


class World:
    """A host and its surroundings; `now` is virtual and never goes back."""

    def __init__(
        self, seed: int, checkers: Sequence[Checker] | None = None, plan: HostPlan | None = None
    ) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.plan = random_plan(self.rng) if plan is None else plan
        # A clock that starts anywhere: sums of round numbers would hide errors of rounding.
        self.began_at = self.now = round(self.rng.uniform(0.0, 1e6), 3)
        self.host: Host = create(self.plan, now=self.now)
        # What falls between the steps of a wish for many must be as good as what comes before and after it.
        self.host.most_at_once = Random(seed ^ 0xE44A4D).choice([1, 2, 5, 32])
        self.kernel = Kernel(self.plan, self.rng, self.after, self.post, lambda: self.now)
        self.operator = Operator(self.plan, self.rng)
        self.checkers = all_checkers() if checkers is None else list(checkers)
        self.moves: deque[str] = deque(maxlen=MOVES_SHOWN)
        self.steps = 0
        self.lateness = 0.0
        self.mischief = True
        self.booted = False
        self.repeats = False
        self.forgiven = False
        self.healed_at = math.inf
        self.witness = Witness(self.plan)
        self._queue: list[tuple[float, float, int, Callable[[], None]]] = []
        self._order = 0
        self._inbox: deque[Event] = deque()
        self._at_once = 0
        self._last_now = self.now
        self.delivered: deque[Event] = deque(maxlen=12)

    # ── time ─────────────────────────────────────────────────────────────────────────────────────

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something later; what falls on one moment happens in random order."""
        self._order += 1
        entry = (self.now + max(0.0, seconds), self.rng.random(), self._order, action)
        heapq.heappush(self._queue, entry)

    def post(self, event: Event) -> None:
        """Give an event to the core and perform what follows, as the engine does."""
        self._inbox.append(event)
        while self._inbox:
            self._step(self._inbox.popleft())
            if core.has_errands(self.host, self.now) and self.rng.random() < 0.5:
                self._inbox.append(CarryOn())

    def run_until(self, moment: float, done: Callable[[], bool] | None = None) -> None:
        """Let time pass; stops early once `done` holds."""
        while not (done is not None and done()):
            due = core.next_deadline(self.host)
            upcoming = self._queue[0][0] if self._queue else None
            if due is None and upcoming is None:
                self.now = max(self.now, moment)
                return
            ticks = upcoming is None or (due is not None and (due, self.rng.random()) < (upcoming, 0.5))
            following = due if ticks else upcoming
            assert following is not None
            if following > moment:
                self.now = max(self.now, moment)
                return
            if ticks:
                self.now = max(self.now, following + self._lateness())
                # A loop that is late looks at its descriptors before it looks at its timers.
                while self._queue and self._queue[0][0] <= self.now and self.now > following:
                    heapq.heappop(self._queue)[3]()
                self.post(Tick(self.host.most_at_once))
            else:
                self.now = max(self.now, following)
                heapq.heappop(self._queue)[3]()

    def _lateness(self) -> float:
        """A busy daemon looks at its clock too late."""
        if not self.mischief or self.rng.random() > 0.02:
            return 0.0
        late = self.rng.choice([0.01, 0.3, 2.0])
        self.lateness += late
        return late

    # ── steps ────────────────────────────────────────────────────────────────────────────────────

    def _step(self, event: Event) -> tuple[Effect, ...]:
        for checker in self.checkers:
            checker.before(self, event)
        try:
            effects = core.step(self.host, event, self.now)
        except Exception as error:
            self.moves.append(line(self, event, ()))
            raise Broken(self.report(f"the core raised {error!r}")) from error
        self.moves.append(line(self, event, effects))
        self._count()
        for effect in effects:
            if isinstance(effect, Accepted):
                self.operator.operations.append(effect.operation)
        self.witness.take(self, event, effects)
        self._judge(lambda checker: checker.after(self, event, effects))
        for effect in effects:
            if isinstance(effect, Act):
                self.kernel.perform(effect)
        due = core.next_deadline(self.host)
        if due is None or due > self.now:
            self._judge(lambda checker: checker.settled(self))
        if _is_fact(event):
            self.delivered.append(event)
        if self.mischief:
            self._mischief(event, effects)
        return effects

    def _judge(self, ask: Callable[[Checker], None]) -> None:
        for checker in self.checkers:
            try:
                ask(checker)
            except AssertionError as error:
                raise Broken(self.report(f"{type(checker).__name__}: {error}")) from error

    def _count(self) -> None:
        self.steps += 1
        self._at_once = self._at_once + 1 if self.now == self._last_now else 0
        self._last_now = self.now
        if self.steps > STEPS_LIMIT or self._at_once > SPIN_LIMIT:
            raise Broken(self.report("it spins: steps without end and no time passing"))

    def _mischief(self, event: Event, effects: tuple[Effect, ...]) -> None:
        """Repeat facts, bring up old ones, and let the operator act on what has just happened."""
        rng = self.rng
        if _is_fact(event):
            if rng.random() < 0.03:
                self.after(rng.choice([0.0, 0.2, 3.0]), lambda: self.again(event))
            if rng.random() < 0.02:
                old = rng.choice(list(self.delivered))
                self.after(0.0, lambda: self.again(old))
        if isinstance(event, Spawned) and rng.random() < 0.05:
            token = self.steps
            self.after(0.0, lambda: self.post(BarrierReached(token)))
        if any(isinstance(effect, Moved) for effect in effects) and rng.random() < 0.04:
            moved = next(effect for effect in effects if isinstance(effect, Moved))
            scope = Scope(moved.instance.pool, moved.instance.index if rng.random() < 0.6 else None)
            self._tell_story(scope, 0.0)

    def again(self, fact: Event) -> None:
        """Repeat a fact; not an answer while another question is open, for nobody can tell them apart."""
        if isinstance(fact, CheckPassed | CheckFailed):
            known = self.host.instances.get(fact.instance)
            state = None if known is None else known.checks.get(fact.check)
            if state is not None and state.asked_at is not None:
                return
        self.post(fact)

    def ask(self, wish: OperatorWish | OperationWish) -> None:
        """An operator's wish; sometimes the same again at once."""
        self.post(wish)
        if self.mischief and not isinstance(wish, SignalRequested) and self.rng.random() < 0.3:
            again = replace(
                wish.wish, operation=self.rng.choice([wish.wish.operation, self.operator.fresh()])
            )
            self.repeats = True
            self.post(replace(wish, wish=again))
            self.repeats = False

    def _ask_later(self, seconds: float, wish: OperatorWish | OperationWish) -> None:
        self.after(seconds, lambda: self.ask(wish) if self.mischief else None)

    def _tell_story(self, scope: Scope, first: float) -> None:
        delay = first
        for wish in self.operator.story(scope):
            self._ask_later(delay, wish)
            delay += self.rng.choice([0.0, 0.0, 0.1, 1.0, 6.0])

    # ── a whole life ─────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Safety, then liveness."""
        self.begin()
        self.run_until(self.began_at + SAFETY_SECONDS, lambda: bool(self.kernel.halts))
        self.end()

    def begin(self) -> None:
        """Boot, and plan what the operator will do."""
        rng = self.rng
        for _ in range(rng.choice([0, 1, 3, 6, 12])):
            self._tell_story(self.operator.scope(), rng.uniform(0.0, SAFETY_SECONDS * 0.8))
        if rng.random() < 0.5:
            at = rng.uniform(0.0, SAFETY_SECONDS)
            for _ in range(rng.choice([1, 1, 2, 3])):
                self._ask_later(at, self.operator.wish("shutdown", Scope()))
                at += rng.choice([0.0, 1.0, 10.0])
        self.post(Booted())
        self.booted = True

    def end(self) -> None:
        """Faults stop: now every goal must be reached within the bound."""
        self.mischief = False
        self.kernel.heal()
        self.healed_at = self.now
        if self.host.shutdown is None:
            for operation in list(self.host.operations.values()):
                if operation.state is OperationState.PAUSED:
                    self.ask(UnpauseRequested(operation.id))
            if self.rng.random() < 0.5:
                self.forgiven = True
                self.ask(self.operator.wish("start", Scope()))
        self.run_until(self.now + self.bound(), self.at_rest)
        self._judge(lambda checker: checker.ended(self))

    def at_rest(self) -> bool:
        """Whether nothing more is going to happen: everybody is at the goal or waits for an operator."""
        if self.host.shutdown is not None:
            return self.host.halted
        due = core.next_deadline(self.host)
        if due is not None and due <= self.now:
            return False
        if any(not operation.state.is_final for operation in self.host.operations.values()):
            return False
        if self.kernel.owes_news:
            return False
        return all(
            one.at_goal or one.phase is Phase.FAILED or (one.phase is Phase.PENDING and one.waiting_for != "")
            for one in self.host.instances.values()
        )

    def bound(self) -> float:
        """Within how many seconds every goal is reached once faults stop."""
        total = 200.0
        for pool in self.plan.pools.values():
            stop = self.plan.worst_case_stop_seconds(pool.name) + pool.stop.extend_total_seconds
            start = pool.startup_timeout_seconds + pool.restart.backoff.max_seconds
            turn = 2 * (stop + start + pool.stop.extend_total_seconds) + pool.rollout.min_ready_seconds
            total += (
                pool.instances + 2 * pool.rollout.max_surge
            ) * turn + pool.rollout.progress_deadline_seconds
        return total

    def report(self, what: str) -> str:
        """The story of a failure: what broke, where, and how to see it again."""
        moves = "\n".join(f"  {move}" for move in self.moves)
        return (
            f"{what}\nseed {self.seed}, commit {commit()}, step {self.steps}, "
            f"{self.now - self.began_at:.3f} s after boot; the last {len(self.moves)} moves:\n{moves}\n"
            f"replay: make sim SEED={self.seed}   (python -m tests.simulation {self.seed})"
        )


def _is_fact(event: Event) -> bool:
    return not isinstance(event, Tick | CarryOn | Booted | BarrierReached | OperatorWish | OperationWish)


def commit() -> str:
    """The short name of the commit under test."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"
