"""Moments of a story that the stub daemon tells: an instance on a rung, a step done, an operation over."""

from typing import Any

from tests.cli.stub_daemon import Moment, Stub, host, instance, last_exit, pool


def emails(count: int = 2) -> Stub:
    """A daemon with one pool of a few and one of a single instance."""
    members = [instance(f"emails/{index}") for index in range(count)]
    return Stub(host(pool("emails", members), pool("api", [instance("api/0")])))


def rung(name: str, phase: str, stage: str, left: float, **changes: Any) -> Moment:
    """The moment at which an instance stands on a rung of its ladder."""

    def moment(stub: Stub) -> None:
        stub.instance(name).update(
            phase=phase,
            goal="drained",
            ready=False,
            stage=stage,
            stage_since_seconds=0.0,
            deadline_seconds=left,
            **changes,
        )

    return moment


def gone(name: str) -> Moment:
    """The moment at which an instance is gone."""
    done = last_exit("exit 0", "clean", rung="stage-1")
    nothing = {"stage": None, "deadline_seconds": None, "waiting_for": None, "pid": None}

    def moment(stub: Stub) -> None:
        stub.instance(name).update(phase="stopped", goal="drained", ready=False, last_exit=done, **nothing)

    return moment


def step(identity: str, name: str, state: str, detail: str = "") -> Moment:
    """The moment at which a step of an operation changes."""

    def moment(stub: Stub) -> None:
        for one in stub.operations[identity]["steps"]:
            if one["instance"] == name:
                one.update(state=state, detail=detail)
        done = sum(
            one["state"] in {"done", "failed", "aborted"} for one in stub.operations[identity]["steps"]
        )
        stub.operation(identity, done=done)

    return moment


def turn(identity: str, state: str, message: str = "") -> Moment:
    """The moment at which the state of an operation changes."""

    def moment(stub: Stub) -> None:
        stub.operation(identity, state=state, message=message, finished_at="2030-01-02T03:04:17Z")

    return moment
