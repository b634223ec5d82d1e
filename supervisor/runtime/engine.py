"""The single writer: takes one event at a time, steps the core, performs what it asks, tells observers.

Nothing else changes the host. There is no `await` between taking an event and performing its
effects, so no other code of this process ever sees a decision half carried out. One timer is armed,
for the earliest deadline. What the events and effects mean is the core's business.
"""

import asyncio
import gc
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast, get_args

from supervisor.core.effects import Act, Effect, Report
from supervisor.core.events import CarryOn, Event, OperatorWish, Tick
from supervisor.core.host import has_errands, next_deadline, put_off, step
from supervisor.core.state import Host

log = logging.getLogger(__name__)

SLICE_SECONDS = 0.0007
"""How long the engine works before it lets the loop look at descriptors again. What was begun is finished,
which takes up to another millisecond: together no more than the loop may be held."""

PUT_OFF_SECONDS = 1.0
"""How long a deadline rests whose decision raised, before it is tried again."""

TIDY_EFFECTS = 300
"""After so many effects `tidy` is called: of starts so many leave some three thousand values in memory."""

LATE_SECONDS = 1.0
"""A timer that rings this late was not held up by work: the process or the machine stood still."""

HEARING_SECONDS = 0.25
"""What arrived meanwhile is then heard for so long before any deadline is called missed. Some of it, the
answers of checks, takes several turns of the loop; so do the ends of many workers."""

DEADLINES_FIRST_SECONDS = 0.05
"""For so long deadlines that pass one after the other go before what arrived after them: workers that are to
be killed are not killed each after the end of another. Beyond it they take turns with what arrives."""

ERRANDS_FIRST_SECONDS = 0.2
"""For so long what is begun for many goes before the ends that it brings, and before log lines: a thousand
workers that are to end are told so within half of it, and not each after the end of another. Beyond it they
take turns. Whoever must be replaced meanwhile waits for it; who asks how it stands does not."""

TOLD_AT_ONCE = 16
"""So many reports take half a millisecond to tell, most of it for log lines; a wish for a host of many pools
has hundreds. The host does not change before the rest is told, except for deadlines that are due."""

_ACTS, _REPORTS = frozenset(get_args(Act)), frozenset(get_args(Report))
# Asked for each effect: isinstance of a union looks at one class after the other.

_WISHES = frozenset(get_args(OperatorWish))

Performers = Mapping[type, Callable[..., None]]
"""One callable for each class of `Act`, called with the act."""

Observer = Callable[[Sequence[Report], Host, float], None]
"""Called after each step that reported something, with the reports, the host and the time of the step. Where
deadlines passed together the host may be some steps ahead."""


class _Step(NamedTuple):
    """What is told when the acts of a step have been performed: to observers, who asked, and who watches."""

    effects: tuple[Effect, ...]
    reports: list[Report]
    now: float
    answer: asyncio.Future[tuple[Effect, ...]] | None
    shows: bool


class Engine:
    """Inbox, step, perform, observe, re-arm.

    `before_tick` is called when a deadline has come, before it is acted on: whoever holds unread
    messages posts them. `is_behind` says that something has happened which takes several turns of the
    loop to post, and may settle a deadline: they wait for it. `note_lateness` is told how many seconds late
    the timer rang. `tidy` is called once in so many effects, between two slices of work. With `strict` what
    goes wrong is raised after it was counted, for tests.
    """

    def __init__(
        self,
        host: Host,
        performers: Performers,
        observers: Sequence[Observer] = (),
        *,
        before_tick: Callable[[], None] = lambda: None,
        is_behind: Callable[[], bool] = lambda: False,
        note_lateness: Callable[[float], None] = lambda _seconds: None,
        tidy: Callable[[], None] = lambda: None,
        strict: bool = False,
    ) -> None:
        self.host = host
        self.faults = 0
        self._performers = performers
        self._observers = observers
        self._before_tick = before_tick
        self._is_behind = is_behind
        self._note_lateness = note_lateness
        self._tidy = tidy
        self._asked = 0
        self._strict = strict
        self._inbox: deque[tuple[Event, asyncio.Future[tuple[Effect, ...]] | None]] = deque()
        self._effects: deque[Act] = deque()
        self._untold: deque[_Step] = deque()
        self._deadlines_first = False
        self._carrying_on = False
        self._errands_until: float | None = None
        self._loop = asyncio.get_running_loop()
        self._working = False
        self._resume: asyncio.Handle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at: float | None = None
        self._rung_at = self._heard_at = 0.0
        self._heard_until = self._deadlines_until = 0.0
        self._one_at_a_time = False
        self._watchers: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def more_is_due(self) -> bool:
        """Whether something waits that goes before ends and log lines; what is left to be performed does."""
        return self._deadlines_first or self._carrying_on or bool(self._effects)

    def now(self) -> float:
        """Monotonic seconds, the clock of every moment in the host."""
        return self._loop.time()

    def post(self, event: Event) -> None:
        """Take an event; it is handled before this returns, unless it is a wish or the engine is at work."""
        self._inbox.append((event, None))
        if type(event) in _WISHES:
            self._work_soon()
        else:
            self._work()

    async def ask(self, event: Event) -> tuple[Effect, ...]:
        """Take an event and return the effects of its step, which is not taken within this call."""
        answer: asyncio.Future[tuple[Effect, ...]] = self._loop.create_future()
        self._inbox.append((event, answer))
        self._work_soon()
        return await answer

    async def pulse(self) -> None:
        """Return once an event that changes nothing was taken: never, while the engine takes none."""
        await self.ask(Tick(0))

    async def changed(self, after: int) -> None:
        """Return as soon as the host's revision is greater than `after`."""
        while self.host.revision <= after:
            watcher: asyncio.Future[None] = self._loop.create_future()
            entry = (after, watcher)
            self._watchers.append(entry)
            try:
                await watcher
            finally:
                if entry in self._watchers:
                    self._watchers.remove(entry)

    def _work_soon(self) -> None:
        if self._resume is None and not self._working:
            self._resume = self._loop.call_soon(self._go_on)

    def _work(self) -> None:
        # A performer may post (a spawn that failed at once): that only lengthens the inbox.
        if self._working or self._resume is not None:
            return
        self._working = True
        until = self._loop.time() + SLICE_SECONDS
        # A wish for a thousand makes thousands of values: they are looked at afterwards, not in its step.
        collects, rested = gc.isenabled(), True
        gc.disable()
        try:
            while self._effects or self._untold or self._inbox:
                if self._loop.time() > until or not (rested or self._is_light()):
                    self._resume = self._loop.call_soon(self._go_on)
                    return
                rested = False
                if self._effects:
                    self._perform(self._effects.popleft())
                elif self._untold and not self.more_is_due:
                    # Last, so that no worker waits for a log line; and none does whose window is over too.
                    self._tell(self._untold.popleft())
                else:
                    self._take(*self._inbox.popleft())
        finally:
            self._working = False
            if collects:
                gc.enable()
            if self._asked >= TIDY_EFFECTS:
                self._asked = 0
                self._loop.call_soon(self._tidy)
        self._rearm()

    def _is_light(self) -> bool:
        """Whether what comes next takes little: the step of a wish for a thousand has a slice of its own."""
        return bool(self._effects or self._untold) or type(self._inbox[0][0]) not in _WISHES

    def _go_on(self) -> None:
        self._resume = None
        self._work()

    def _take(self, event: Event, answer: asyncio.Future[tuple[Effect, ...]] | None) -> None:
        self._deadlines_first = False
        if type(event) is CarryOn:
            self._carrying_on = False
        revision, now = self.host.revision, self._loop.time()
        if isinstance(event, Tick):
            # The timer may fire a clock tick early; without this it would be re-armed and spin.
            now = max(now, self._rung_at)
        try:
            effects = step(self.host, event, now)
        except Exception as error:
            self.faults += 1
            log.exception("cannot decide about %r: the event is dropped and supervision goes on", event)
            if isinstance(event, Tick) and event.most:
                self._isolate(event, now)
            if answer is not None and not answer.done():
                answer.set_exception(error)
            if self._strict:
                raise
            return
        if isinstance(event, Tick) and event.most:
            self._tick_again(event)
        self._carry_on(now)
        self._effects.extend(cast("list[Act]", [effect for effect in effects if type(effect) in _ACTS]))
        self._asked += len(effects)
        reports = cast("list[Report]", [effect for effect in effects if type(effect) in _REPORTS])
        self._untold.append(_Step(effects, reports, now, answer, self.host.revision != revision))

    def _tick_again(self, tick: Tick) -> None:
        """What was due when the timer rang, and did not fit in, is due before what arrived since.

        So is what has become due meanwhile, after what was said meanwhile.
        """
        wanted, now = next_deadline(self.host), self._loop.time()
        if wanted is None or wanted > now or now >= self._deadlines_until:
            return
        if wanted <= self._heard_at:
            self._inbox.appendleft((tick, None))
        elif self._is_behind() or has_errands(self.host, now):
            return
        else:
            self._before_tick()
            self._heard_at = now
            self._inbox.append((tick, None))
        self._deadlines_first = True

    def _carry_on(self, now: float) -> None:
        """All whom a wish concerns hear of it before anybody hears what came of it."""
        if not self.host.errands:
            self._errands_until = None
            return
        if self._errands_until is None:
            self._errands_until = now + ERRANDS_FIRST_SECONDS
        if not self._carrying_on and now < self._errands_until and has_errands(self.host, now):
            self._inbox.append((CarryOn(), None))
            self._carrying_on = True

    def _tell(self, done: _Step) -> None:
        following, rest = done.reports[:TOLD_AT_ONCE], done.reports[TOLD_AT_ONCE:]
        if following:
            self._observe(following, done.now)
        if rest:
            self._untold.appendleft(done._replace(reports=rest))
            return
        if done.answer is not None and not done.answer.done():
            done.answer.set_result(done.effects)
        if done.shows:
            self._wake_watchers()

    def _perform(self, act: Act) -> None:
        try:
            self._performers[type(act)](act)
        except Exception:
            self.faults += 1
            log.exception("cannot perform %r: supervision goes on without it", act)
            if self._strict:
                raise

    def _observe(self, reports: list[Report], now: float) -> None:
        for observer in self._observers:
            try:
                observer(reports, self.host, now)
            except Exception:
                self.faults += 1
                log.exception("cannot report to %r: supervision goes on without it", observer)
                if self._strict:
                    raise

    def _wake_watchers(self) -> None:
        watchers, self._watchers = self._watchers, []
        for _, watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    def _rearm(self) -> None:
        wanted = next_deadline(self.host)
        if wanted == self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = wanted
        self._alarm = None if wanted is None else self._loop.call_at(wanted, self._ring)

    def _ring(self) -> None:
        if self._alarm_at is not None:
            now = self._loop.time()
            if now - self._alarm_at > LATE_SECONDS and now >= self._heard_until:
                self._stood_still(now - self._alarm_at)
                self._heard_until = now + HEARING_SECONDS + LATE_SECONDS
                self._alarm = self._loop.call_later(HEARING_SECONDS, self._ring)
                return
            if now - self._alarm_at < HEARING_SECONDS and self._is_behind():
                self._alarm = self._loop.call_later(0, self._ring)
                return
            self._rung_at = self._alarm_at
            self._note_lateness(now - self._alarm_at)
        self._alarm = self._alarm_at = None
        # What workers said in time is heard before a deadline of theirs is called missed.
        self._before_tick()
        self._heard_at = self._loop.time()
        self._deadlines_until = self._heard_at + DEADLINES_FIRST_SECONDS
        self.post(Tick(1) if self._one_at_a_time else Tick())

    def _stood_still(self, seconds: float) -> None:
        log.warning(
            "the loop stood still for %.1f s: the daemon was stopped, or the machine is too busy; deadlines"
            " that passed meanwhile are acted on once what arrived in time has been heard",
            seconds,
        )

    def _isolate(self, tick: Tick, now: float) -> None:
        """A deadline's decision raised: find it alone, and let it rest so that the others go on."""
        if tick.most == 1:
            put_off(self.host, now + PUT_OFF_SECONDS)
        self._one_at_a_time = tick.most > 1

    def close(self) -> None:
        """Take no more events and arm no more timers."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self._resume is not None:
            self._resume.cancel()
        self._working = True
