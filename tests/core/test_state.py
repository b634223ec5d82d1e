"""The values and the questions one may ask them."""

from supervisor.core.events import DrainRequested, StopRequested
from supervisor.core.instance import RungKind
from supervisor.core.phases import HAS_PROCESS, LEGAL_MOVES, ON_THE_WAY_OUT, Goal, Phase
from supervisor.core.plan import Condition, DrainPolicy, Kind, PoolPlan
from supervisor.core.state import Census, OperationState, is_task
from tests.playbook import host_of, named, running, wish


def test_the_map_is_whole() -> None:
    """Every phase is on it, each can be reached, and no process is lost on the way."""
    assert set(LEGAL_MOVES) == set(Phase)
    reached = {target for targets in LEGAL_MOVES.values() for target in targets}
    assert reached == set(Phase)
    assert ON_THE_WAY_OUT < HAS_PROCESS
    for phase in Phase:
        if phase not in HAS_PROCESS:
            assert LEGAL_MOVES[phase] & HAS_PROCESS <= {Phase.STARTING}


def test_relations_are_transitive() -> None:
    """Who depends on whom, through others too, nearest first, each once."""
    host = host_of(
        PoolPlan("a"),
        PoolPlan("b", depends_on={"a": Condition.READY}),
        PoolPlan("c", depends_on={"b": Condition.READY, "a": Condition.STARTED}),
    )
    assert host.requirements["c"] == ("b", "a")
    assert host.dependents["a"] == ("b", "c")
    assert host.dependents["c"] == ()


def test_the_goal_of_the_host_is_that_of_all_its_pools() -> None:
    """Up as soon as one is."""
    book = running(PoolPlan("a"), PoolPlan("b"))
    seen = [book.host.goal]
    for name in ("a", "b"):
        book >> DrainRequested(wish(name, f"drain-{name}"))
        book._left.clear()
        seen.append(book.host.goal)
    assert seen == [Goal.UP, Goal.UP, Goal.DRAINED]


def test_the_next_moment_is_the_earliest_of_all() -> None:
    """Deadline, watchdog, uptime, idle time and checks."""
    book = running(PoolPlan("web", watchdog_seconds=30.0))
    assert book.instance("web/0").wake_at() == 31
    assert running(PoolPlan("web")).instance("web/0").wake_at() is None


def test_what_a_rung_is_called() -> None:
    """Stages are numbered, other rungs are not."""
    book = running(PoolPlan("web", drain=DrainPolicy())) >> StopRequested(wish("web"))
    book._left.clear()
    stop = book.instance("web/0").stop
    assert stop is not None
    assert [rung.name for rung in stop.rungs] == ["drain", "stage-1", "stage-2", "kill"]
    assert stop.rungs[0].kind is RungKind.DRAIN
    assert book.instance("web/0").rung is stop.rungs[0]


def test_counting_there_and_back() -> None:
    """Taking everybody out again leaves nothing."""
    book = running(PoolPlan("web", instances=3))
    census = Census()
    for sign in (1, -1):
        for one in book.host.instances_of("web"):
            census.count(one, sign)
    assert census == Census()


def test_small_questions() -> None:
    """Whether it is a task, what it is called, and whether anything will change."""
    host = host_of(PoolPlan("web"), PoolPlan("job", kind=Kind.TASK))
    assert [is_task(pool) for pool in host.pools.values()] == [False, True]
    assert host.pools["web"].name == "web"
    assert [state.is_final for state in OperationState] == [False, False, False, True, True, True]
    assert str(named("web/3")) == "web/3"
