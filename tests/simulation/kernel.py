"""A fake kernel: fake processes, what is done to them, and the truth about who lives.

It performs the core's acts as the runtime does and reports facts through `post`. What it notes in
`Tree` is the truth that the checkers judge by; the core never sees it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from supervisor.core.effects import Act, Check, Forget, Halt, Kill, Release, ReleaseBarrier, Signal, Spawn
from supervisor.core.events import (
    CheckFailed,
    CheckKind,
    CheckPassed,
    Event,
    Exited,
    Spawned,
    SpawnFailed,
    Told,
    TreeGone,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.identity import InstanceId
from supervisor.core.plan import HostPlan, Kind, PoolPlan, Readiness, Target
from tests.simulation.behaviour import HEALTHY, HEALTHY_TASK, Behaviour, random_behaviour

Schedule = Callable[[float, Callable[[], None]], None]
"""Do something after so many seconds of virtual time."""

STOP_SIGNALS = frozenset({"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP"})


@dataclass
class Tree:
    """One generation in truth: its processes, and what happened to it when."""

    instance: InstanceId
    generation: int
    plan: PoolPlan
    behaviour: Behaviour
    began_at: float
    main_alive: bool = False
    children_alive: set[int] = field(default_factory=set)
    spawn_settled: bool = False
    spawned: bool = False
    main_ended_at: float | None = None
    ended_at: float | None = None
    exit_told: bool = False
    gone_told: bool = False
    forgotten: bool = False
    said_ready: bool = False
    said_stopping: bool = False
    idle: bool = False
    hung: bool = False
    checks_passed: int = 0
    killed_at: float | None = None
    draining: bool = False
    refusals_left: int = 0
    status: ExitStatus | None = None
    outbox: deque[tuple[Event, Callable[[], None]]] = field(default_factory=deque)
    last_told_at: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether any process of it lives."""
        return self.main_alive or bool(self.children_alive)

    @property
    def open(self) -> bool:
        """Whether the core has not been told its end yet."""
        return not self.gone_told


class Kernel:
    """All fake processes of one host."""

    def __init__(
        self,
        plan: HostPlan,
        rng: Random,
        schedule: Schedule,
        post: Callable[[Event], None],
        now: Callable[[], float],
    ) -> None:
        self.plan, self.rng, self.faulty = plan, rng, True
        self._schedule, self._post, self._now = schedule, post, now
        self._next_pid = 100
        self.trees: dict[InstanceId, list[Tree]] = {}
        self.halts: list[Halt] = []
        self.barriers: list[int] = []
        self.released: list[InstanceId] = []
        self.fate: Callable[[InstanceId, int], Behaviour | None] = lambda _instance, _generation: None

    def tree(self, instance: InstanceId, generation: int) -> Tree | None:
        """One generation, if it was ever asked for."""
        for tree in reversed(self.trees.get(instance, [])):
            if tree.generation == generation:
                return tree
        return None

    def latest(self, instance: InstanceId) -> Tree | None:
        """The newest generation of an instance."""
        trees = self.trees.get(instance)
        return trees[-1] if trees else None

    @property
    def owes_news(self) -> bool:
        """Whether somebody has ended and the core has not been told."""
        latest = (trees[-1] for trees in self.trees.values())
        return any(tree.main_ended_at is not None and not tree.exit_told for tree in latest)

    def heal(self) -> None:
        """Faults stop: what starts from now on is healthy, and who is up says so."""
        self.faulty = False
        for trees in self.trees.values():
            if trees[-1].main_alive and not trees[-1].said_stopping:
                self._say(trees[-1], ready=True)

    def crash(self, tree: Tree, status: ExitStatus) -> None:
        """The main process ends by itself, now."""
        self._main_ends(tree, status)

    def say(self, tree: Tree, **words: Any) -> None:
        """The worker says this, now."""
        self._say(tree, **words)

    # ── acts ─────────────────────────────────────────────────────────────────────────────────────

    def perform(self, act: Act) -> None:
        """Carry out one act as the runtime does."""
        match act:
            case Spawn():
                self._spawn(act)
            case Signal():
                self._signal(act)
            case Kill():
                self._kill(act)
            case Check():
                self._check(act)
            case Forget():
                tree = self.tree(act.instance, act.generation)
                if tree is not None:
                    tree.forgotten = True
            case Release():
                self.released.append(act.instance)
            case ReleaseBarrier():
                self.barriers.append(act.token)
            case Halt():
                self.halts.append(act)

    def _behaviour(self, act: Spawn) -> Behaviour:
        task = self.plan.pools[act.instance.pool].kind is Kind.TASK
        fate = self.fate(act.instance, act.generation)
        if fate is not None:
            return fate
        if self.faulty:
            return random_behaviour(self.rng, task=task)
        return HEALTHY_TASK if task else HEALTHY

    def _spawn(self, act: Spawn) -> None:
        behaviour, plan = self._behaviour(act), self.plan.pools[act.instance.pool]
        tree = Tree(act.instance, act.generation, plan, behaviour, self._now())
        tree.refusals_left = behaviour.drain_refusals
        self.trees.setdefault(act.instance, []).append(tree)
        name = (act.instance, act.generation)
        if behaviour.spawn_error is not None:

            def failed() -> None:
                tree.spawn_settled = tree.gone_told = True

            self._tell(tree, SpawnFailed(*name, behaviour.spawn_error), behaviour.report_delay, failed)
            return
        tree.main_alive = tree.spawned = True
        tree.children_alive = set(range(len(behaviour.children)))
        self._next_pid += 1
        self._tell(
            tree,
            Spawned(*name, self._next_pid),
            behaviour.report_delay,
            lambda: setattr(tree, "spawn_settled", True),
        )
        self._live(tree)

    def _live(self, tree: Tree) -> None:
        behaviour, plan = tree.behaviour, tree.plan
        if behaviour.crash_after is not None:
            self._schedule(behaviour.crash_after, lambda: self._main_ends(tree, behaviour.crash_status))
        if plan.readiness is Readiness.NOTIFY and behaviour.ready_after is not None:
            self._schedule(behaviour.ready_after, lambda: self._say(tree, ready=True))
        for at, words in behaviour.says:
            self._schedule(at, lambda words=words: self._say(tree, **words) if self.faulty else None)  # type: ignore[misc]
        if plan.watchdog_seconds is not None:
            self._keep_alive(tree, plan.watchdog_seconds / 2)

    def _keep_alive(self, tree: Tree, period: float) -> None:
        lost = tree.behaviour.watchdog_lost_after
        if not tree.main_alive:
            return
        if lost is not None and self._now() - tree.began_at >= lost:
            tree.hung = True
            return
        self._say(tree, watchdog=True)
        self._schedule(period, lambda: self._keep_alive(tree, period))

    def _signal(self, act: Signal) -> None:
        tree = self.tree(act.instance, act.generation)
        if tree is None:
            return
        if tree.main_alive:
            self._main_hears(tree, act.signal)
        if act.target is Target.ALL:
            for child in list(tree.children_alive):
                delay = tree.behaviour.children[child].dies_on_term
                if act.signal == "SIGKILL":
                    delay = tree.behaviour.uninterruptible
                if delay is not None:
                    self._schedule(delay, lambda child=child: self._child_ends(tree, child))  # type: ignore[misc]

    def _main_hears(self, tree: Tree, signal: str) -> None:
        behaviour = tree.behaviour
        drain = tree.plan.drain
        if signal == "SIGKILL":
            self._schedule(
                behaviour.uninterruptible, lambda: self._main_ends(tree, ExitStatus(signal="SIGKILL"))
            )
        elif signal in STOP_SIGNALS:
            if behaviour.asks_for_more is not None:
                self._say(tree, extend_seconds=behaviour.asks_for_more)
            if behaviour.exit_on_term is not None:
                self._schedule(
                    max(behaviour.exit_on_term, behaviour.uninterruptible),
                    lambda: self._main_ends(tree, behaviour.term_status),
                )
        elif drain is not None and signal == drain.signal:
            self._drain(tree)

    def _drain(self, tree: Tree) -> None:
        behaviour = tree.behaviour
        if tree.draining:
            return
        tree.draining = True
        if behaviour.asks_for_more is not None:
            self._say(tree, extend_seconds=behaviour.asks_for_more)
        if behaviour.drain_takes is None:
            return
        if behaviour.drain_ends_by == "in-flight":
            self._say(tree, in_flight=2)

        def done() -> None:
            tree.idle = True
            match behaviour.drain_ends_by:
                case "exit":
                    self._main_ends(tree, ExitStatus(code=0))
                case "in-flight":
                    self._say(tree, in_flight=0)
                case "drained":
                    self._say(tree, drained=True)
                case _:
                    pass

        self._schedule(behaviour.drain_takes, done)

    def _kill(self, act: Kill) -> None:
        tree = self.tree(act.instance, act.generation)
        if tree is None:
            return
        if tree.killed_at is None:
            tree.killed_at = self._now()
        delay = tree.behaviour.uninterruptible
        if tree.main_alive:
            self._schedule(delay, lambda: self._main_ends(tree, ExitStatus(signal="SIGKILL")))
        for child in list(tree.children_alive):
            self._schedule(delay, lambda child=child: self._child_ends(tree, child))  # type: ignore[misc]

    def _check(self, act: Check) -> None:
        tree = self.tree(act.instance, act.generation)
        if tree is None or (self.faulty and self.rng.random() < tree.behaviour.loses_checks):
            return
        passes = tree.main_alive and self._passes(tree, act.check)
        takes = min(tree.behaviour.check_takes, act.timeout_seconds)
        name = (act.instance, act.generation, act.check)
        answer: Event = CheckPassed(*name) if passes else CheckFailed(*name, "HTTP 503")

        def told() -> None:
            if act.check is CheckKind.READINESS and passes:
                tree.checks_passed += 1
            if act.check is CheckKind.DRAIN and passes:
                self._drain(tree)

        self._tell(tree, answer, takes, told)

    def _passes(self, tree: Tree, check: CheckKind) -> bool:
        behaviour, age = tree.behaviour, self._now() - tree.began_at
        match check:
            case CheckKind.READINESS:
                ready = behaviour.ready_after is not None and age >= behaviour.ready_after
                return ready and self.rng.random() >= (behaviour.unready_share if self.faulty else 0.0)
            case CheckKind.LIVENESS:
                return behaviour.unhealthy_after is None or age < behaviour.unhealthy_after
            case CheckKind.DRAIN:
                tree.refusals_left -= 1
                return tree.refusals_left < 0
            case CheckKind.UNTIL:
                return tree.idle

    # ── facts ────────────────────────────────────────────────────────────────────────────────────

    def _say(self, tree: Tree, **words: Any) -> None:
        if not tree.alive:
            return

        def told() -> None:
            tree.said_ready |= bool(words.get("ready"))
            tree.said_stopping |= bool(words.get("stopping"))
            tree.hung |= bool(words.get("watchdog_trigger")) or "watchdog_seconds" in words
            tree.idle |= bool(words.get("drained")) or words.get("in_flight") == 0

        told_later = Told(tree.instance, tree.generation, **words)
        self._tell(tree, told_later, 0.0, told)

    def _tell(self, tree: Tree, event: Event, delay: float, note: Callable[[], None]) -> None:
        """Report a fact; facts of one generation never overtake each other."""

        def deliver() -> None:
            first, note_it = tree.outbox.popleft()
            note_it()
            self._post(first)

        tree.outbox.append((event, note))
        tree.last_told_at = max(self._now() + delay, tree.last_told_at)
        self._schedule(tree.last_told_at - self._now(), deliver)

    def _main_ends(self, tree: Tree, status: ExitStatus) -> None:
        if not tree.main_alive:
            return
        now = self._now()
        tree.main_alive, tree.main_ended_at, tree.status = False, now, status
        leftovers = len(tree.children_alive)
        for child in tree.children_alive:
            own = tree.behaviour.children[child].dies_by_itself
            if own is not None:
                self._schedule(own, lambda child=child: self._child_ends(tree, child))  # type: ignore[misc]
        if not leftovers:
            tree.ended_at = now

        def told() -> None:
            tree.exit_told = True
            tree.gone_told = not leftovers

        self._tell(
            tree,
            Exited(tree.instance, tree.generation, status, leftovers),
            tree.behaviour.report_delay / 10,
            told,
        )

    def _child_ends(self, tree: Tree, child: int) -> None:
        if child not in tree.children_alive:
            return
        tree.children_alive.discard(child)
        if tree.alive or tree.main_ended_at is None:
            return
        tree.ended_at = self._now()
        self._tell(
            tree, TreeGone(tree.instance, tree.generation), 0.0, lambda: setattr(tree, "gone_told", True)
        )
