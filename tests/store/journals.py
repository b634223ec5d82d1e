"""Journals of a host with two pools: what is written into one, and what the next life reads."""

from pathlib import Path

from supervisor.core.effects import GoalChanged
from supervisor.core.events import Scope
from supervisor.core.phases import Goal
from supervisor.core.plan import HostPlan, PoolPlan
from supervisor.core.state import Host, Operation, OperationState, create
from supervisor.store.journal import Journal

EMAILS = Scope("emails")


def a_host() -> Host:
    """Two pools of two."""
    return create(HostPlan("shop", {name: PoolPlan(name, instances=2) for name in ("emails", "web")}))


def wished(scope: Scope, to: Goal) -> GoalChanged:
    """The report of an operator's goal."""
    return GoalChanged(scope, to, "request", "uid=0(root) pid=1")


def operation(name: str, state: OperationState, started_at: float = 10.0) -> Operation:
    """A drain of emails."""
    return Operation(
        name, "drain", EMAILS, state, 1, 2, started_at, 12.0 if state.is_final else None, request_id="r"
    )


async def written(path: Path, *reports: GoalChanged) -> dict[Scope, Goal]:
    """The intents of the next life after these reports."""
    journal = Journal.open(path)
    host = a_host()
    for report in reports:
        journal.observe([report], host, 0.0)
    assert await journal.durable() is None
    await journal.close()
    return await reread(path)


async def reread(path: Path) -> dict[Scope, Goal]:
    """The intents of the next life."""
    journal = Journal.open(path)
    await journal.close()
    return journal.intents()
