"""What becomes of wishes, and who is left alone: promises 7, 9, 11 and 12, and the daemon itself."""

from collections.abc import Iterator

from tests.chaos.evidence import EARLY_SECONDS, TICK_SECONDS, Finding, evidence
from tests.chaos.record import Process, Story


def _away(story: Story, pool: str) -> list[tuple[float, float, Process]]:
    """From when to when each ready instance was away because the daemon had told it to go."""
    found = []
    for mains in story.by_instance.values():
        if mains[0].pool != pool:
            continue
        for number, main in enumerate(mains):
            told = main.told()
            if not told or main.ready_at is None or main.ready_at > told[0].at:
                continue
            later = (one.counted_ready_at for one in mains[number + 1 :])
            back = next((moment for moment in later if moment is not None), story.ended_at)
            found.append((told[0].at, back, main))
    return sorted(found, key=lambda item: item[0])


def rollouts_keep_capacity(story: Story) -> Iterator[Finding]:
    """7: a rollout makes no more instances unready than allowed, and goes no further after a failure."""
    for pool in {main.pool for main in story.mains}:
        shape = next(main.shape for main in story.mains if main.pool == pool)
        if shape.liveness or shape.watchdog:
            continue
        away = _away(story, pool)
        for since, _, main in away:
            if _is_stopped(story, main, since):
                continue
            others = [
                other
                for begin, end, other in away
                if other is not main and begin < since < end and not _is_stopped(story, other, begin)
            ]
            if len(others) >= shape.max_unavailable:
                text = f"{main.instance} was taken down while {len(others)} others of {pool} were away for it"
                yield Finding(
                    "7", text, evidence(story, main.instance, since, *(one.lines[-1] for one in others))
                )
            yield from _after_failure(story, main, since, away)


def _is_stopped(story: Story, main: Process, at: float) -> bool:
    """Whether the daemon may have told it to go for another reason than a rollout."""
    if any(deed.at <= at for deed in story.of("shutdown")) or main.last_sign - main.began_at < EARLY_SECONDS:
        return True
    return any(wish.at <= at < wish.until + 60 for wish in story.wishes_for(main.instance, "stop", "drain"))


def _after_failure(
    story: Story, main: Process, since: float, away: list[tuple[float, float, Process]]
) -> Iterator[Finding]:
    later = [
        other
        for other in story.by_instance[main.instance]
        if other.generation > main.generation and other.gone_at is not None
    ]
    if not later or later[0].ready_at is not None or later[0].told():
        return
    failed_at = later[0].gone_at
    assert failed_at is not None
    again = [wish.at for wish in story.wishes_for(main.instance) if wish.until >= since + TICK_SECONDS]
    pool_wide = [
        wish.at
        for wish in story.wishes
        if wish["pool"] in {None, main.pool} and wish.until >= since + TICK_SECONDS
    ]
    until = min([*again, *pool_wide], default=story.ended_at)
    slack = EARLY_SECONDS + story.delayed_seconds(failed_at - 5, failed_at + 5)
    for begin, _, other in away:
        if failed_at + slack < begin < until and not _is_stopped(story, other, begin):
            text = f"{other.instance} was taken down after {main.instance} had failed to come back"
            yield Finding("7", text, evidence(story, other.instance, begin, *later[0].lines[-3:]))


def repeats_change_nothing(story: Story) -> Iterator[Finding]:
    """9: who asks twice gets the same operation, and no worker is told a thing twice."""
    for deed in story.of("repeat"):
        if deed["first"] != deed["second"] and not deed["ended_between"]:
            yield Finding("9", f"{deed['verb']} asked twice became two operations", (str(deed),))
    for process in story.processes:
        declared = [signal for signal, _, _ in process.shape.stages]
        if process.role != "main":
            # What is left of a tree may also be swept: once more.
            declared.append("SIGTERM")
        if process.shape.drain:
            declared.append(str(process.shape.drain.get("signal")))
        names = [line.facts["name"] for line in process.told()]
        for name in sorted(set(names)):
            if names.count(name) > declared.count(name):
                text = f"{process.instance} was sent {name} {names.count(name)} times"
                yield Finding("9", text, evidence(story, process.instance, process.last_sign))


def strangers_are_left_alone(story: Story) -> Iterator[Finding]:
    """11: no process that is not ours gets a signal."""
    for deed in story.of("stranger-signaled"):
        text = (
            f"a stranger (pid {deed['pid']}, {deed['about']}) got {deed['signal']} from pid {deed['sender']}"
        )
        yield Finding("11", text, (str(deed),))


def goals_are_reached(story: Story) -> Iterator[Finding]:
    """12: once the faults stop, all are where they are wanted; and the daemon says so too."""
    for deed in story.of("calm"):
        if deed["missing"]:
            names = str(deed["missing"]).split(",")
            text = f"after {deed.until - deed.at:.0f} s of calm still not there: {deed['missing']}"
            about = evidence(story, names[0].split(" ")[0], deed.until)
            yield Finding("12", text, (*about, str(deed)))
    for deed in story.of("ended"):
        if deed["code"] != 0:
            yield Finding("12", f"the daemon ended with {deed['code']}", (str(deed),))


MOST_BYTES = 250 * 1024 * 1024
MOST_DESCRIPTORS = 50 * 3 + 150
"""Three for each instance; the rest are listeners, the journal, log files, and what clients hold open."""


def daemon_stays_small(story: Story) -> Iterator[Finding]:
    """The daemon's memory and descriptors do not grow with what happens."""
    samples = story.of("sample")
    for deed in samples:
        if deed["bytes"] > MOST_BYTES or deed["descriptors"] > MOST_DESCRIPTORS:
            yield Finding("size", "the daemon has grown", (str(deed),))
            return
    calm = [deed for deed in samples if deed["calm"]]
    if calm and calm[-1]["bytes"] > calm[0]["bytes"] + 64 * 1024 * 1024:
        yield Finding("size", "the daemon grows from calm to calm", (str(calm[0]), str(calm[-1])))


def daemon_is_sound(story: Story) -> Iterator[Finding]:
    """No step of the daemon broke an invariant, and nothing raised where nobody expected it."""
    for deed in story.of("alarming"):
        yield Finding("sound", "the daemon's log is alarming", (str(deed["line"]),))
