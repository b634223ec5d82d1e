"""What will happen to an instance or a pool, and which commands change that: the sentences of `explain`.

Each sentence follows from the phase, the goal and the rung; nothing here guesses at what a worker does.
"""

from supervisor.cli.ctl.durations import left
from supervisor.cli.ctl.view import InstanceView, PoolView

Way = tuple[str, str]
"""A command, and what it brings about."""

_RUNGS = {
    "settle": "It gets no new work, so that load balancers can notice; then it is told to drain.",
    "drain": "It finishes what it holds. It leaves this rung when it is idle, says so, or exits",
    "hold": "It stays until the pools that depend on it are gone; then its own stop begins.",
    "sweep": "Its main process is gone; what it left behind was told to terminate, and is killed after that",
    "kill": "SIGKILL went to the whole tree; what is still there after that is called stuck",
}


_SIMPLY = {
    "failed": "Nothing by itself: it has given up, or its last exit was not worth a retry.",
    "stuck": "It outlived SIGKILL, so it hangs in the kernel. It is reaped when the kernel lets it go.",
}


def next_for_instance(one: InstanceView, pool: PoolView) -> list[str]:
    """What happens next to an instance if nobody does anything."""
    limit = f"in {left(one.deadline)}" if one.deadline is not None else ""
    match one.phase:
        case "pending":
            return [
                f"It starts as soon as this holds: {one.waiting_for}."
                if one.waiting_for
                else "It starts now."
            ]
        case "starting":
            return _on_its_way_up(one)
        case "running":
            return [_running(one)]
        case "draining" | "stopping":
            return [*_on_the_ladder(one, limit), _after_the_ladder(one)]
        case "backoff":
            again = f"It starts again {limit or 'soon'}, as generation {one.generation + 1}."
            return [f"{again} Each further failure makes the wait longer, up to a cap."]
        case "stopped":
            return [_at_rest(one, pool)]
    return [_SIMPLY.get(one.phase, "Unknown: this daemon is newer than this pitbossctl.")]


def _on_its_way_up(one: InstanceView) -> list[str]:
    steps = [f"It is ready after this: {one.waiting_for or one.unready_reason or 'its readiness'}."]
    if one.deadline is not None:
        steps.append(f"If that takes longer than {left(one.deadline)}, it is stopped: a failed start.")
    return steps


def _running(one: InstanceView) -> str:
    if one.goal != "up":
        return "It is about to be stopped."
    if one.ready:
        return "Nothing: it is up, ready, and may get work."
    return "It gets no work until it is ready again; if its liveness check fails too, it is restarted."


def _on_the_ladder(one: InstanceView, limit: str) -> list[str]:
    if one.stage.startswith("stage"):
        signal = one.stage_signal or "a signal"
        whom = "every process of its tree" if one.stage_target == "all" else "its main process"
        then = f" If it is still there {limit}, the next rung follows." if limit else ""
        return [f"{signal} went to {whom}; it may finish and exit.{then}"]
    sentence = _RUNGS.get(one.stage, "It is on its way down")
    if sentence.endswith("."):
        return [sentence]
    return [f"{sentence}; at the latest {limit}." if limit else f"{sentence}."]


def _after_the_ladder(one: InstanceView) -> str:
    if one.goal == "drained":
        return "Then it stays away until it is resumed."
    if one.goal == "down":
        return "Then it stays down until it is started."
    return f"Then it starts again, as generation {one.generation + 1}."


def _at_rest(one: InstanceView, pool: PoolView) -> str:
    if one.goal == "drained":
        return "Nothing: an operator drained it, and it stays away until it is resumed."
    if one.goal == "down":
        return "Nothing: an operator stopped it, and it stays down until it is started or resumed."
    if pool.status == "completed" or pool.kind == "task":
        return "Nothing: it has run to completion."
    return "Nothing, if its restart policy considers it finished; else it starts again at once."


def ways_for_instance(one: InstanceView, pool: PoolView) -> list[Way]:
    """The commands that help, the gentlest first."""
    name = one.name
    scope = pool.name if pool.goal != "up" else name
    match one.phase:
        case "stopped" if one.goal == "drained":
            return [(f"pitbossctl resume {scope}", "brings it back")]
        case "stopped" if one.goal == "down":
            return [(f"pitbossctl start {scope}", "brings it back")]
        case "stopped":
            return [(f"pitbossctl start {name}", "runs it again")]
        case "pending":
            return [
                ("pitbossctl status", "shows what it waits for"),
                (f"pitbossctl stop {name}", "takes it off the list"),
            ]
        case "backoff":
            return [
                (f"pitbossctl start {name}", "starts it at once instead of after the wait"),
                (f"pitbossctl stop {name}", "gives it a rest: no more attempts"),
            ]
        case "failed":
            return [(f"pitbossctl restart --failed {name}", "tries again, with a clean record")]
        case "draining" | "stopping":
            ways = [(f"pitbossctl stop {name} --now", "skips the drain")] if one.phase == "draining" else []
            if one.stage != "kill":
                ways.append((f"pitbossctl stop {name} --kill", "kills the whole tree at once; work is lost"))
            if one.goal != "up":
                ways.append((f"pitbossctl resume {scope}", "brings it back when it is gone"))
            return ways
        case "stuck":
            return [(f"cat /proc/{one.pid or 'PID'}/wchan", "names the place in the kernel where it hangs")]
    return [
        (f"pitbossctl restart {name}", "replaces it by a new process"),
        (f"pitbossctl drain {name}", "lets it finish and takes it away"),
    ]


def next_for_pool(pool: PoolView) -> list[str]:
    """What happens next to a pool if nobody does anything."""
    stuck = [one.name for one in pool.instances if one.phase == "stuck"]
    if stuck:
        return [
            f"{', '.join(stuck)} outlived SIGKILL: only the kernel can end it, and a new one waits for that."
        ]
    if pool.goal == "drained":
        rest = "it stays away until it is resumed."
        return [
            f"Nothing: {rest}" if pool.status == "drained" else f"When its work is done it goes, and {rest}"
        ]
    if pool.goal == "down":
        rest = "it stays down until it is started or resumed."
        return [f"Nothing: {rest}" if pool.status == "stopped" else f"It goes down, and {rest}"]
    if pool.rollout is not None:
        if pool.rollout.state == "paused":
            return ["The rollout is paused: what is being replaced finishes, and nothing further begins."]
        halt = "the first replacement that does not become ready halts it."
        return [f"The rollout goes on, {pool.rollout.waiting} to go; {halt}"]
    phases = {one.phase for one in pool.instances if not one.at_goal}
    if not phases:
        return ["Nothing: it is where it should be."]
    steps = []
    if phases & {"pending", "starting"}:
        steps.append("What is starting becomes ready, or is stopped and tried again.")
    if "backoff" in phases:
        steps.append("What is in backoff starts again by itself, more rarely after each failure.")
    if "failed" in phases:
        steps.append("What has failed stays so until somebody tries again.")
    if phases & {"draining", "stopping"}:
        steps.append("What is on its way down is gone by the end of its ladder, and then follows its goal.")
    return steps or ["What is not ready gets no work until it is."]


def ways_for_pool(pool: PoolView) -> list[Way]:
    """The commands that help, the gentlest first."""
    name = pool.name
    stuck = next((one.name for one in pool.instances if one.phase == "stuck"), None)
    if stuck is not None:
        return [(f"pitbossctl explain {stuck}", "says where in the kernel to look")]
    if pool.goal == "drained":
        return [(f"pitbossctl resume {name}", "brings it back")]
    if pool.goal == "down":
        return [(f"pitbossctl start {name}", "brings it back")]
    if pool.rollout is not None:
        identity = pool.rollout.operation
        steer = (
            ("resume", "goes on") if pool.rollout.state == "paused" else ("pause", "begins no further turn")
        )
        return [
            (f"pitbossctl operations {steer[0]} {identity}", steer[1]),
            (f"pitbossctl operations abort {identity}", "leaves the pool as it is now"),
        ]
    ways = []
    first = next((one for one in pool.instances if not one.at_goal), None)
    if first is not None:
        ways.append((f"pitbossctl explain {first.name}", "says why the first of them is not well"))
    if any(one.phase in {"failed", "backoff"} for one in pool.instances):
        ways.append((f"pitbossctl restart --failed {name}", "tries again now"))
    return ways or [(f"pitbossctl restart {name}", "replaces its processes, a few at a time")]
