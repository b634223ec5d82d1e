"""One line on how the host stands, for `systemctl status`: what is well, and the first thing that is not.

Decides the words only; how often they are said is the business of whoever says them.
"""

from supervisor.core.health import pool_health
from supervisor.core.phases import Phase
from supervisor.core.state import Host
from supervisor.telemetry.log_forms import escape, span

MAX_CHARACTERS = 240
"""Longer lines are cut: a status page shows one."""


def status_line(host: Host, now: float) -> str:
    """The line: `3/4 pools healthy; emails/0 is backoff, waiting for its next attempt after exit 1`.

    While the host goes: how many instances still have processes, and how long it may last at most.
    """
    if host.shutdown is not None:
        left = max(0.0, host.shutdown.deadline - now)
        many = host.with_process
        if not many:
            return "shutting down: every instance is gone"
        return f"shutting down: {_counted(many, 'instance')} left, {span(left)} at most"
    well, troubled, reason = 0, 0, ""
    for name, pool in host.pools.items():
        census = host.census[name]
        quiet = census.wanted_at_goal == census.wanted and not census.phases[Phase.STUCK]
        if quiet and (census.wanted or not census.declared):
            well += 1
        elif reason and pool.rollout is None:
            # Its instances are not looked at one by one: a thousand pools in trouble are still one line.
            troubled += 1
        else:
            health = pool_health(host, name)
            well += health.ok
            troubled += not health.ok
            if not health.ok:
                reason = reason or health.reasons[0]
    line = f"{well}/{_counted(len(host.pools), 'pool')} healthy"
    if troubled:
        line += f"; {reason}"
    if troubled > 1:
        line += f"; and {_counted(troubled - 1, 'more pool')}"
    return escape(line, MAX_CHARACTERS)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
