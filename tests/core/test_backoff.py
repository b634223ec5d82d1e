"""How long to wait, how waits spread out, and when to stop trying."""

from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.backoff import delay_seconds, has_given_up, spread
from supervisor.core.identity import InstanceId
from supervisor.core.plan import Backoff, GiveUp

RULES = st.builds(
    Backoff,
    initial_seconds=st.floats(0, 100),
    factor=st.floats(1, 10),
    max_seconds=st.floats(0, 1000),
    jitter=st.floats(0, 1),
)
FRACTION = st.floats(0, 1, exclude_max=True)


@given(RULES, st.integers(1, 10**6), FRACTION)
def test_a_delay_is_never_negative_and_never_above_the_maximum(
    rules: Backoff, failures: int, fraction: float
) -> None:
    """However many failures, and whatever was drawn."""
    assert 0 <= delay_seconds(rules, failures, fraction) <= rules.max_seconds


@given(RULES, st.integers(1, 1000))
def test_a_further_failure_never_shortens_the_wait(rules: Backoff, failures: int) -> None:
    """With the same draw, patience only grows."""
    assert delay_seconds(rules, failures + 1, 0.25) >= delay_seconds(rules, failures, 0.25)


@given(st.floats(0, 1), FRACTION)
def test_jitter_is_the_share_that_is_drawn(jitter: float, fraction: float) -> None:
    """Without jitter the delay is exact; with full jitter it may be nothing."""
    rules = Backoff(8.0, 1.0, 60.0, jitter)
    assert 8.0 * (1 - jitter) <= delay_seconds(rules, 1, fraction) <= 8.0


def test_the_delays_of_the_default() -> None:
    """Half a second, doubled each time, at most a minute."""
    steady = Backoff(jitter=0.0)
    assert [delay_seconds(steady, n, 0.9) for n in range(1, 10)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


def test_peers_spread_out() -> None:
    """A thousand instances of one host fall evenly into ten tenths, give or take a third."""
    tenths = [0] * 10
    for index in range(1000):
        tenths[int(10 * spread("shop", InstanceId("emails", index), 1))] += 1
    assert all(66 <= count <= 133 for count in tenths), tenths


@given(st.text(), st.text(), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_draw_is_a_fraction_and_never_changes(host: str, pool: str, index: int, generation: int) -> None:
    """It is a function of who waits: a replayed trace stays the same."""
    drawn = spread(host, InstanceId(pool, index), generation)
    assert 0 <= drawn < 1
    assert drawn == spread(host, InstanceId(pool, index), generation)


def test_hosts_and_generations_differ() -> None:
    """The fleet does not come back in step, nor one instance with its own last try."""
    here = spread("a", InstanceId("web", 0), 1)
    assert here != spread("b", InstanceId("web", 0), 1)
    assert here != spread("a", InstanceId("web", 0), 2)


def test_giving_up() -> None:
    """So many starts inside the window; older ones do not count, and without a rule nobody gives up."""
    rules = GiveUp(3, 60.0)
    assert not has_given_up(None, (1, 2, 3, 4), 5.0)
    assert not has_given_up(rules, (1, 2), 5.0)
    assert has_given_up(rules, (1, 2, 3), 5.0)
    assert has_given_up(rules, (0, 1, 2), 60.0)
    assert not has_given_up(rules, (0, 1, 2), 60.1)
