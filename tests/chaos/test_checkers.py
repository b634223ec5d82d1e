"""Each checker bites: a sound record passes all of them, and with one thing wrong it does not."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.chaos import starts, stops, wishes
from tests.chaos.checkers import check
from tests.chaos.evidence import Finding
from tests.chaos.record import Deed, Line, Story, parse

DAEMON = 1
Checker = Callable[[Story], Iterator[Finding]]


class Tale:
    """A record that a test makes up; seconds are those of the record's clock."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.deeds: list[Deed] = []
        self.now: dict[tuple[str, str], tuple[int, int]] = {}
        self.pids = 100

    def begins(
        self, name: str, at: float, *, role: str = "main", lock: str = "free", ready: bool = True
    ) -> None:
        """The next generation of an instance, or a child of the present one."""
        generation = self.now.get((name, "main"), (0, 0))[0] + (role == "main")
        self.pids += 1
        self.now[name, role] = (generation, self.pids)
        self.says(name, at, "began", role, spawned=at - 0.05, daemon=DAEMON, lock=lock)
        if ready and role == "main":
            self.says(name, at + 0.3, "ready")

    def says(self, name: str, at: float, what: str, role: str = "main", /, **facts: object) -> None:
        """A line of its present generation."""
        generation, pid = self.now[name, role]
        said = {key: str(value) for key, value in facts.items()}
        self.lines.append(Line(at, what, name, generation, pid, role, said))

    def told(self, name: str, at: float, signal: str = "SIGTERM", role: str = "main") -> None:
        """A signal from the daemon."""
        self.says(name, at, "signal", role, name=signal, sender=DAEMON)

    def goes(self, name: str, at: float, role: str = "main") -> None:
        """The kernel says that it is gone; nothing of its own word."""
        generation, pid = self.now[name, role]
        self.did("gone", at, instance=name, generation=generation, pid=pid)

    def ends(self, name: str, at: float, role: str = "main", code: int = 0) -> None:
        """It says goodbye, and is gone."""
        self.says(name, at, "exit", role, code=code)
        self.goes(name, at + 0.01, role)

    def killed(self, name: str, at: float) -> None:
        """The storm kills it."""
        generation, pid = self.now[name, "main"]
        self.did("kill", at, instance=name, generation=generation, pid=pid)
        self.goes(name, at + 0.01)

    def did(self, kind: str, at: float, until: float | None = None, **facts: Any) -> None:
        """A deed of the storm, or something that was seen."""
        self.deeds.append(Deed(at, at if until is None else until, kind, facts))

    def wish(self, verb: str, at: float, pool: str | None, index: int | None = None, **facts: Any) -> None:
        """A wish that was granted at once."""
        known = {"verb": verb, "pool": pool, "index": index, "urgency": "normal", "status": 202}
        self.did("wish", at, at + 0.01, **(known | facts))

    def story(self) -> Story:
        """What the checkers are given; the record goes on for a long while."""
        return Story(self.lines, self.deeds, 1000.0)

    def found(self, checker: Checker) -> str:
        """What one checker says."""
        return "; ".join(finding.text for finding in checker(self.story()))


def sound() -> Tale:
    """A quiet day: a stop, a crash, a restart, an order to kill, an orderly end."""
    tale = Tale()
    tale.begins("migrate/0", 10, ready=False)
    tale.ends("migrate/0", 10.3)
    for name in ("db/0", "db/1"):
        tale.begins(name, 11)
    tale.begins("app/0", 12)
    for name in ("plain/0", "plain/1", "web/0", "web/1", "web/2", "stubborn/0", "forker/1"):
        tale.begins(name, 12)
    tale.begins("forker/1", 12.1, role="grandchild")
    tale.says("plain/0", 20, "begun", task=1)
    tale.says("plain/0", 20.5, "done", task=1)
    tale.killed("plain/0", 21)
    tale.begins("plain/0", 21.4)
    tale.wish("stop", 30, "stubborn")
    tale.told("stubborn/0", 30.1)
    tale.told("stubborn/0", 31.6)
    tale.goes("stubborn/0", 33.1)
    tale.wish("restart", 40, "web")
    for number, name in enumerate(("web/0", "web/1", "web/2")):
        tale.told(name, 40.1 + 2 * number)
        tale.ends(name, 40.2 + 2 * number)
        tale.begins(name, 40.4 + 2 * number)
    tale.wish("stop", 50, "forker")
    tale.told("forker/1", 50.1)
    tale.ends("forker/1", 50.2)
    tale.told("forker/1", 50.6, role="grandchild")
    tale.ends("forker/1", 50.7, role="grandchild")
    tale.did("shutdown", 60, 62, urgency="normal")
    for at, name in ((60.1, "app/0"), (60.9, "db/0"), (60.9, "db/1"), (60.1, "plain/0"), (60.1, "plain/1")):
        tale.told(name, at)
        tale.ends(name, at + 0.4)
    for name in ("web/0", "web/1", "web/2"):
        tale.told(name, 60.1)
        tale.ends(name, 60.2)
    tale.did("ended", 60, 62, code=0)
    return tale


def test_a_quiet_day_breaks_no_promise() -> None:
    """The record that all others here are made from."""
    assert [str(finding) for finding in check(sound().story())] == []


def test_a_line_of_a_worker_is_read() -> None:
    """What a worker writes is what a checker sees."""
    line = parse("12.5 signal web/1 3 77 main name=SIGTERM sender=9")
    assert (line.at, line.generation, line.facts) == (12.5, 3, {"name": "SIGTERM", "sender": "9"})


def two_at_once(tale: Tale) -> None:
    """The next generation begins while the one before works."""
    tale.begins("plain/1", 25)
    tale.now["plain/1", "main"] = (1, tale.now["plain/1", "main"][1])


def lives_on(tale: Tale) -> None:
    """A line of generation 1 after generation 2 has begun."""
    old = tale.now["plain/1", "main"]
    tale.begins("plain/1", 25)
    tale.now["plain/1", "main"] = old
    tale.says("plain/1", 26, "begun", task=9)


def child_lives_on(tale: Tale) -> None:
    """A grandchild writes after the next generation has begun."""
    tale.begins("forker/1", 55)
    tale.says("forker/1", 56, "signal", "grandchild", name="SIGHUP", sender=5)


def vanishes(tale: Tale) -> None:
    """Gone without a word, and nobody has asked for anything."""
    tale.begins("plain/3", 12)
    tale.says("plain/3", 24, "begun", task=3)
    tale.goes("plain/3", 25)


def window_cut(tale: Tale) -> None:
    """Half a second after the last signal, where a second and a half was declared."""
    tale.begins("stubborn/1", 12)
    tale.told("stubborn/1", 30.1)
    tale.told("stubborn/1", 31.6)
    tale.goes("stubborn/1", 32.1)


def child_cut(tale: Tale) -> None:
    """What a main process left behind is killed without having been told."""
    tale.begins("forker/3", 12)
    tale.begins("forker/3", 12.1, role="child")
    tale.ends("forker/3", 30)
    tale.goes("forker/3", 30.3, role="child")


def drops_its_task(tale: Tale) -> None:
    """It ends in order with a task in its hands."""
    tale.begins("plain/2", 12)
    tale.says("plain/2", 13, "begun", task=1)
    tale.ends("plain/2", 13.2)


def outlives_its_stop(tale: Tale) -> None:
    """It is told, and lives until the end of the record."""
    tale.begins("settler/0", 12)
    tale.wish("drain", 30, "settler")


def starts_too_early(tale: Tale) -> None:
    """Before the database is ready."""
    tale.begins("app/1", 11.1)


def starts_unmigrated(tale: Tale) -> None:
    """Before the migration is done."""
    tale.begins("db/0", 10.1)


def cut_off(tale: Tale) -> None:
    """The database is told to end while an application works."""
    tale.begins("app/2", 20)
    tale.says("app/2", 61.2, "done", task=1)


def never_back(tale: Tale) -> None:
    """A worker is killed, and nothing follows."""
    tale.begins("http/0", 12)
    tale.killed("http/0", 20)


def stands_still(tale: Tale) -> None:
    """Nothing for half a minute in the middle of its work."""
    tale.begins("exec/0", 12)
    tale.says("exec/0", 13, "begun", task=1)
    tale.says("exec/0", 43, "done", task=1)


def three_away(tale: Tale) -> None:
    """A third one is told to go while two are away."""
    tale.begins("web/3", 12)
    tale.told("web/3", 40.15)
    tale.ends("web/3", 40.2)
    tale.begins("web/3", 46)
    tale.lines = [line for line in tale.lines if not (line.instance == "web/1" and 40 < line.at < 60)]
    tale.now["web/1", "main"] = (1, next(line.pid for line in tale.lines if line.instance == "web/1"))
    tale.told("web/1", 40.12)


def goes_on_after_failure(tale: Tale) -> None:
    """The first replacement crashes, and the next instance is taken down all the same."""
    tale.lines = [line for line in tale.lines if not (line.instance.startswith("web") and line.at > 30)]
    tale.deeds = [deed for deed in tale.deeds if deed.kind != "gone" or "web" not in deed["instance"]]
    for name in ("web/0", "web/1"):
        tale.now[name, "main"] = (1, next(line.pid for line in tale.lines if line.instance == name))
    tale.told("web/0", 40.1)
    tale.ends("web/0", 40.2)
    tale.begins("web/0", 40.4, ready=False)
    tale.ends("web/0", 41, code=1)
    tale.told("web/1", 45)


def no_backoff(tale: Tale) -> None:
    """A start right after a crash."""
    tale.begins("metronome/0", 12)
    tale.killed("metronome/0", 20)
    tale.begins("metronome/0", 20.1)


def never_gives_up(tale: Tale) -> None:
    """Seven starts in seven seconds."""
    for number in range(7):
        tale.begins("crashy/1", 12 + number * 1.2, ready=False)
        tale.ends("crashy/1", 12.5 + number * 1.2, code=3)


def told_twice(tale: Tale) -> None:
    """A third TERM, where the ladder has two."""
    tale.told("stubborn/0", 32)


def comes_back_by_itself(tale: Tale) -> None:
    """What was drained before the daemon ended begins with the next one."""
    tale.did("kept-down", 5, 25, pool="plain")


def deed(kind: str, **facts: Any) -> Callable[[Tale], None]:
    """Something that was seen."""

    def add(tale: Tale) -> None:
        tale.did(kind, 20, 50, **facts)

    return add


def grows(tale: Tale) -> None:
    """From one calm to the next."""
    for at, size in ((20, 60), (30, 200)):
        tale.did("sample", at, bytes=size << 20, descriptors=100, calm=True, waited=0)


WRONG: list[tuple[Checker, Callable[[Tale], None], str]] = [
    (starts.one_process, two_at_once, "lived after"),
    (starts.one_process, lives_on, "lived after 2 had begun"),
    (
        starts.one_process,
        lambda tale: tale.begins("plain/3", 12, lock="held-by-1:99"),
        "while something before it lived",
    ),
    (starts.one_process, lambda tale: tale.begins("plain/8", 12), "one instance too many"),
    (stops.nothing_is_left, child_lives_on, "lived after generation 2 began"),
    (stops.nothing_is_left, deed("survivor", pid=7, command="python"), "is left"),
    (stops.nothing_is_left, deed("zombie", pid=7), "was a zombie for 30.0 s"),
    (stops.kill_is_last, vanishes, "killed after 0 of 2 signals"),
    (stops.kill_is_last, window_cut, "had 0.50 s of 1.5 s"),
    (stops.kill_is_last, child_cut, "killed after 0 of 1 signals"),
    (stops.tasks_survive, vanishes, "lost task 3"),
    (stops.tasks_survive, drops_its_task, "ended in order with task 1"),
    (stops.stops_end, outlives_its_stop, "after its stop"),
    (starts.order_is_kept, starts_too_early, "started while db was not ready"),
    (starts.order_is_kept, starts_unmigrated, "started while migrate was not completed"),
    (starts.order_is_kept, cut_off, "was told to end while app/2 lived"),
    (starts.nobody_waits_for_others, never_back, "was not back"),
    (starts.work_flows, stands_still, "stood still for 30.0 s"),
    (wishes.rollouts_keep_capacity, three_away, "was taken down while 2 others"),
    (wishes.rollouts_keep_capacity, goes_on_after_failure, "had failed to come back"),
    (starts.starts_are_spaced, no_backoff, "its backoff is 0.2 s"),
    (starts.starts_are_spaced, never_gives_up, "had 7 starts"),
    (wishes.repeats_change_nothing, told_twice, "was sent SIGTERM 3 times"),
    (
        wishes.repeats_change_nothing,
        deed("repeat", verb="drain", first="a", second="b", ended_between=False),
        "became two operations",
    ),
    (starts.intent_is_kept, comes_back_by_itself, "came back by itself"),
    (
        wishes.strangers_are_left_alone,
        deed("stranger-signaled", pid=7, about="a bystander", signal="SIGTERM", sender=1),
        "got SIGTERM from pid 1",
    ),
    (wishes.goals_are_reached, deed("calm", missing="web/1 (failed)"), "still not there: web/1"),
    (wishes.goals_are_reached, deed("ended", code=-6), "ended with -6"),
    (
        wishes.daemon_stays_small,
        deed("sample", bytes=1 << 30, descriptors=9, calm=False, waited=0),
        "has grown",
    ),
    (wishes.daemon_stays_small, grows, "grows from calm to calm"),
    (wishes.daemon_is_sound, deed("alarming", line="Traceback"), "alarming"),
]


@pytest.mark.parametrize(("checker", "doctor", "text"), WRONG)
def test_one_thing_wrong_is_found(checker: Checker, doctor: Callable[[Tale], None], text: str) -> None:
    """By the checker of that promise."""
    tale = sound()
    assert tale.found(checker) == ""
    doctor(tale)
    assert text in tale.found(checker)


EXCUSED: list[tuple[Checker, Callable[[Tale], None], Callable[[Tale], None]]] = [
    (stops.kill_is_last, vanishes, lambda tale: tale.wish("stop", 24.9, "plain", urgency="kill")),
    (stops.tasks_survive, vanishes, lambda tale: tale.wish("stop", 24.9, "plain", 3, urgency="kill")),
    (starts.starts_are_spaced, no_backoff, lambda tale: tale.wish("start", 20.05, "metronome")),
    (starts.starts_are_spaced, never_gives_up, lambda tale: tale.wish("start", 15, None)),
    (starts.nobody_waits_for_others, never_back, lambda tale: tale.wish("stop", 15, "http")),
    (stops.stops_end, outlives_its_stop, lambda tale: tale.wish("resume", 30.3, "settler")),
    (stops.nothing_is_left, deed("zombie", pid=7), lambda tale: tale.did("freeze-daemon", 20, 45)),
]


@pytest.mark.parametrize(("checker", "doctor", "excuse"), EXCUSED)
def test_what_was_asked_for_is_not_held_against_anybody(
    checker: Checker, doctor: Callable[[Tale], None], excuse: Callable[[Tale], None]
) -> None:
    """The same record with the wish, or the fault, that explains it."""
    tale = sound()
    doctor(tale)
    assert tale.found(checker)
    excuse(tale)
    assert tale.found(checker) == ""


@pytest.mark.parametrize(("told_at", "says"), [(42.0, ""), (40.5, "was taken down while 1 others")])
def test_who_is_held_while_it_begins_counts_by_its_uptime(told_at: float, says: str) -> None:
    """Where uptime is readiness, the daemon goes on when a worker was up for long enough, and no sooner."""
    tale = sound()
    tale.wish("restart", 40, "plain")
    tale.told("plain/0", 40.1)
    tale.ends("plain/0", 40.2)
    tale.begins("plain/0", 40.4, ready=False)
    tale.says("plain/0", 45, "ready")
    tale.told("plain/1", told_at)
    tale.ends("plain/1", told_at + 0.1)
    found = tale.found(wishes.rollouts_keep_capacity)
    assert says in found if says else not found


@pytest.mark.parametrize(("asked_at", "says"), [(20.055, ""), (20.2, "its backoff is 0.2 s")])
def test_a_start_that_was_asked_for_waits_for_no_backoff(asked_at: float, says: str) -> None:
    """Also where the kernel rounds the start down to before the wish; not where it was asked for later."""
    tale = sound()
    no_backoff(tale)
    tale.wish("start", asked_at, "metronome", 0)
    found = tale.found(starts.starts_are_spaced)
    assert says in found if says else not found
