"""One checker for each promise, judging by what the workers wrote and the kernel showed.

Nothing that the daemon says of itself is believed. A checker takes the story of one life of the daemon and
yields what is wrong with it. The promises are those of docs/explanation/promises.md.
"""

from collections.abc import Callable, Iterator

from tests.chaos import starts, stops, wishes
from tests.chaos.evidence import Finding
from tests.chaos.record import Story

CHECKERS: tuple[Callable[[Story], Iterator[Finding]], ...] = (
    starts.one_process,
    stops.kill_is_last,
    stops.tasks_survive,
    stops.stops_end,
    stops.nothing_is_left,
    starts.order_is_kept,
    starts.nobody_waits_for_others,
    starts.work_flows,
    wishes.rollouts_keep_capacity,
    starts.starts_are_spaced,
    wishes.repeats_change_nothing,
    starts.intent_is_kept,
    wishes.strangers_are_left_alone,
    wishes.goals_are_reached,
    wishes.daemon_stays_small,
    wishes.daemon_is_sound,
)


def check(story: Story) -> list[Finding]:
    """Everything that is wrong with this story."""
    return [finding for checker in CHECKERS for finding in checker(story)]
