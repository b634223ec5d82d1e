"""When workers start: promises 1, 5, 6, 8 and 10."""

from collections.abc import Iterator
from itertools import pairwise

from tests.chaos.evidence import LATE_SECONDS, TICK_SECONDS, Finding, evidence
from tests.chaos.record import Process, Story


def one_process(story: Story) -> Iterator[Finding]:
    """1: at most one process per generation, and never an instance more than declared."""
    for name, mains in story.by_instance.items():
        shape = mains[0].shape
        if int(name.rpartition("/")[2]) >= shape.instances:
            yield Finding("1", f"{name} is one instance too many", evidence(story, name, mains[0].began_at))
        for main in mains:
            if main.lock != "free":
                text = (
                    f"{name} generation {main.generation} began while something before it lived: {main.lock}"
                )
                yield Finding("1", text, evidence(story, name, main.began_at))
        for before, after in pairwise(mains):
            if after.generation <= before.generation:
                text = f"{name} went from generation {before.generation} to {after.generation}"
                yield Finding("1", text, evidence(story, name, after.began_at))
            if before.last_sign > after.began_at:
                text = f"{name} generation {before.generation} lived after {after.generation} had begun"
                yield Finding("1", text, evidence(story, name, after.began_at))


def order_is_kept(story: Story) -> Iterator[Finding]:
    """5: nobody starts before what he needs, and nobody is told to end before those who need him are gone."""
    for main in story.mains:
        for needed, condition in main.shape.depends_on.items():
            others = [other for other in story.mains if other.pool == needed]
            if not _gate_was_open(story, main, others, condition):
                text = f"{main.instance} started while {needed} was not {condition}"
                yield Finding("5", text, evidence(story, main.instance, main.began_at))
    for down in story.of("shutdown"):
        if down["urgency"] == "kill":
            continue
        for main in story.alive_at(down.at):
            told = [line.at for line in main.told("SIGTERM") if line.at > down.at]
            wished = story.wishes_for(main.instance, "stop", "drain", "restart")
            if not told or any(wish.at > down.at - 60 for wish in wished):
                continue
            for other in story.processes:
                if main.pool in other.shape.depends_on and other.last_sign > told[0]:
                    text = f"{main.instance} was told to end while {other.instance} lived"
                    yield Finding("5", text, evidence(story, other.instance, told[0], down))


def _gate_was_open(story: Story, main: Process, others: list[Process], condition: str) -> bool:
    at = main.spawned_at + TICK_SECONDS
    if condition == "completed":
        return any(
            other.exit and other.exit.facts.get("code") == "0" and other.exit.at <= at for other in others
        )
    ready = [other for other in others if other.ready_at is not None and other.ready_at <= at]
    late = 1.0 + story.delayed_seconds(at - 10, at)
    for other in ready:
        told = other.told()
        end = min([other.gone_at or story.ended_at, *(line.at for line in told[:1])])
        if end >= at - late:
            return True
    return False


def nobody_waits_for_others(story: Story) -> Iterator[Finding]:
    """6: whoever ends unasked is back after his own backoff, whatever happens to the others."""
    for name, mains in story.by_instance.items():
        shape = mains[0].shape
        if shape.depends_on or shape.give_up or shape.task:
            continue
        for main, after in pairwise([*mains, None]):
            assert main is not None
            if main.gone_at is None:
                continue
            bound = shape.max_seconds + LATE_SECONDS
            limit = main.gone_at + bound
            limit += story.delayed_seconds(main.gone_at, limit + 10) + _broken_seconds(
                story, name, main.gone_at
            )
            touched = any(
                wish.at < limit and wish.until > main.gone_at - 60
                for wish in story.wishes_for(name)
                if wish["verb"] != "signal"
            )
            down = any(deed.at < limit for deed in story.of("shutdown"))
            if touched or down or limit > story.ended_at or story.goal(name, main.gone_at) != "up":
                continue
            if after is None or after.began_at > limit:
                text = f"{name} was not back {limit - main.gone_at:.1f} s after its end"
                yield Finding("6", text, evidence(story, name, main.gone_at))


def _broken_seconds(story: Story, instance: str, since: float) -> float:
    """For how long after this moment a start of this instance could not succeed."""
    pool = instance.partition("/")[0]
    breaks = [
        deed
        for deed in story.of("break-command", "starve")
        if deed["pool"] in {None, pool} and deed.until > since
    ]
    return max([deed.until - since for deed in breaks if deed.at < since + 30], default=0.0)


def work_flows(story: Story) -> Iterator[Finding]:
    """6, as work sees it: a full disk, a silent daemon or trouble elsewhere stops no worker."""
    for main in story.mains:
        told = main.told()
        lines = [line for line in main.lines if line.what in {"begun", "done", "drained", "signal"}]
        for line, following in pairwise(lines):
            gap = following.at - line.at
            idle = line.what == "drained" or (told and told[0].at <= line.at)
            slack = LATE_SECONDS + story.delayed_seconds(line.at, following.at)
            if gap <= slack or idle or story.was_held(main, line.at, following.at):
                continue
            text = f"{main.instance} stood still for {gap:.1f} s"
            yield Finding("6", text, evidence(story, main.instance, line.at))


def starts_are_spaced(story: Story) -> Iterator[Finding]:
    """8: a start waits for its backoff, and after so many starts in such a time there is none."""
    for name, mains in story.by_instance.items():
        shape = mains[0].shape
        failures = 0
        for before, after in pairwise(mains):
            ended_at = _ended_by_itself_at(story, before)
            eased = _was_eased(story, name, before.spawned_at, after.spawned_at)
            if ended_at is None or eased or after.generation != before.generation + 1:
                failures = 0
                continue
            was_well = before.ready_at is None or ended_at - before.ready_at > shape.reset_after_seconds - 1
            failures = 1 if was_well else failures + 1
            waited, due = after.spawned_at - ended_at, shape.backoff_seconds(failures)
            if waited < due - TICK_SECONDS:
                text = f"{name} started {waited:.2f} s after failure {failures}; its backoff is {due:g} s"
                yield Finding("8", text, evidence(story, name, after.spawned_at))
        if shape.give_up is None:
            continue
        starts, within = shape.give_up
        for first, last in zip(mains, mains[starts:], strict=False):
            spent = last.spawned_at - first.spawned_at
            eased = _was_eased(story, name, first.spawned_at, last.spawned_at)
            if spent < within - TICK_SECONDS and not eased:
                rule = f"it gives up after {starts} in {within:g} s"
                text = f"{name} had {starts + 1} starts in {spent:.2f} s; {rule}"
                yield Finding("8", text, evidence(story, name, last.spawned_at))


def _ended_by_itself_at(story: Story, main: Process) -> float | None:
    """When it ended, if neither the daemon nor an operator had a hand in it; never later than it did."""
    if main.told():
        return None
    kill = story.storm_kill(main)
    if kill is not None:
        return kill.at
    return main.exit.at if main.exit is not None else None


def _was_eased(story: Story, instance: str, since: float, until: float) -> bool:
    """Whether a wish may have taken back what failed before; a rollout takes its turns for 60 s.

    The kernel says when a process was started in ticks, rounded down: that may be before the wish it obeyed.
    """
    return any(
        wish.at <= until + TICK_SECONDS and wish.until >= since - (60 if wish["verb"] == "restart" else 0)
        for wish in story.wishes_for(instance)
        if wish["verb"] != "signal"
    )


def intent_is_kept(story: Story) -> Iterator[Finding]:
    """10: what was drained or stopped stays so over the end of the daemon, until it is asked back."""
    for deed in story.of("kept-down"):
        for main in story.mains:
            if deed.touches(main.instance) and deed.at <= main.began_at < deed.until:
                text = f"{main.instance} came back by itself with a new daemon"
                yield Finding("10", text, evidence(story, main.instance, main.began_at, deed))
