"""How workers end: promises 2, 3 and 4."""

from collections.abc import Iterator

from tests.chaos.evidence import DOWN, EARLY_SECONDS, LATE_SECONDS, Finding, evidence
from tests.chaos.pools import SHAPES
from tests.chaos.record import Process, Story


def killed_by_the_daemon(story: Story, process: Process) -> bool:
    """Whether it vanished without a word, and neither the storm nor an operator's signal explains it."""
    return process.gone_at is not None and process.exit is None and story.storm_kill(process) is None


def kill_was_ordered(story: Story, process: Process) -> bool:
    """Whether an operator had said `kill` during this generation."""
    assert process.gone_at is not None
    wishes = [wish for wish in story.wishes_for(process.instance) if wish["urgency"] == "kill"]
    orders = [*wishes, *(deed for deed in story.of("shutdown") if deed["urgency"] == "kill")]
    return any(order.at <= process.gone_at and order.until >= process.spawned_at - 1 for order in orders)


def kill_is_last(story: Story) -> Iterator[Finding]:
    """2: a worker is killed only after each signal of its ladder had its whole window."""
    for process in story.processes:
        if not killed_by_the_daemon(story, process) or kill_was_ordered(story, process):
            continue
        assert process.gone_at is not None
        stages = [(signal, grace) for signal, target, grace in process.shape.stages if target == "all"]
        if process.role == "main":
            stages = [(signal, grace) for signal, _, grace in process.shape.stages]
        windows = sum(grace for _, grace in stages)
        if story.was_held(process, process.gone_at - windows - LATE_SECONDS, process.gone_at):
            # It could not write down what it was told; only the whole of the windows is known.
            if process.gone_at - process.spawned_at < windows - EARLY_SECONDS:
                text = f"{process.instance} was killed sooner than its windows are long"
                yield Finding("2", text, evidence(story, process.instance, process.gone_at))
            continue
        told = process.told(*(signal for signal, _ in stages))[: len(stages)]
        if len(told) < len(stages):
            text = (
                f"{process.instance} ({process.role}) was killed after {len(told)} of {len(stages)} signals"
            )
            yield Finding("2", text, evidence(story, process.instance, process.gone_at))
            continue
        ends = [*(line.at for line in told[1:]), process.gone_at]
        for line, end, (signal, grace) in zip(told, ends, stages, strict=True):
            # A window begins when the daemon decides; without a processor it sends the signal later.
            paused = story.delayed_seconds(line.at - 3, line.at + 0.1, times=1)
            if end - line.at < grace - EARLY_SECONDS - paused:
                text = f"{process.instance} had {end - line.at:.2f} s of {grace:g} s after {signal}"
                yield Finding("2", text, evidence(story, process.instance, process.gone_at))


def tasks_survive(story: Story) -> Iterator[Finding]:
    """2, as work sees it: a task is lost only to the storm, to an operator, or to its own worker."""
    for main in story.mains:
        task = main.open_task
        if task is None or main.gone_at is None or main.shape.stubborn:
            continue
        if main.exit is not None:
            if main.exit.facts.get("code") == "0":
                text = f"{main.instance} ended in order with task {task.facts['task']} in hand"
                yield Finding("2", text, evidence(story, main.instance, main.gone_at))
            continue
        if story.storm_kill(main) or kill_was_ordered(story, main):
            continue
        if not story.was_held(main, task.at - LATE_SECONDS, main.gone_at):
            text = f"{main.instance} lost task {task.facts['task']}, and nobody is to blame"
            yield Finding("2", text, evidence(story, main.instance, main.gone_at))


def stops_end(story: Story) -> Iterator[Finding]:
    """3: who lived when a stop was asked for is gone when its windows have passed."""
    for wish in story.wishes:
        if wish["verb"] not in {"stop", "drain"} or wish["status"] != 202:
            continue
        for process in story.alive_at(wish.at):
            if not wish.touches(process.instance) or story.goal(process.instance, wish.until) not in DOWN:
                continue
            shape = process.shape
            patience = shape.settle_seconds + shape.boot_seconds + EARLY_SECONDS
            back = story.wishes_for(process.instance, "resume", "start")
            if any(wish.at <= other.until and other.at <= wish.until + patience + 2 for other in back):
                continue
            bound = shape.stop_seconds + _held_seconds(process.pool) + LATE_SECONDS
            bound += story.delayed_seconds(wish.at, wish.until + bound)
            end = process.gone_at if process.gone_at is not None else story.ended_at
            if end - wish.until > bound:
                text = (
                    f"{process.instance} lives {end - wish.until:.1f} s after its stop; bound {bound:.1f} s"
                )
                yield Finding("3", text, evidence(story, process.instance, wish.until, wish))


def _held_seconds(pool: str) -> float:
    """How long it may have to wait for those that depend on it."""
    return sum(shape.stop_seconds + _held_seconds(shape.name) for shape in SHAPES if pool in shape.depends_on)


def nothing_is_left(story: Story) -> Iterator[Finding]:
    """4: of a tree nothing lives on when the next generation begins or the host is down; no zombie stays."""
    for process in story.processes:
        if process.role == "main":
            continue
        later = [
            main
            for main in story.by_instance.get(process.instance, [])
            if main.generation > process.generation and main.began_at < process.last_sign
        ]
        if later:
            text = (
                f"a {process.role} of {process.instance} lived after generation {later[0].generation} began"
            )
            yield Finding("4", text, evidence(story, process.instance, later[0].began_at))
    for deed in story.of("survivor"):
        yield Finding("4", f"pid {deed['pid']} is left: {deed['command']}", (str(deed),))
    for deed in story.of("zombie"):
        seconds = deed.until - deed.at - story.delayed_seconds(deed.at, deed.until)
        if seconds > LATE_SECONDS:
            yield Finding("4", f"pid {deed['pid']} was a zombie for {seconds:.1f} s", (str(deed),))
