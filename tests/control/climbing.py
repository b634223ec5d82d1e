"""An instance in the middle of its stop, with all that a reader may be told of it."""

from supervisor.core.effects import Cause
from supervisor.core.instance import Rung, RungKind, Stop
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import Target
from tests.control.plant import EMAILS, Plant, an_exit


async def climbing(one: Plant) -> None:
    """emails/0 is on stage 2 of its stop, with a past and a colourful status."""
    now = one.engine.now()
    rung = Rung(RungKind.STAGE, 5.0, number=2, signal="SIGTERM", target=Target.ALL)
    await one.engine.put(
        one.engine.host.instances[EMAILS]._replace(
            goal=Goal.DRAINED,
            phase=Phase.STOPPING,
            ready=False,
            pid=4711,
            generation=3,
            since=now - 10.0,
            started_at=now - 100.0,
            deadline=now + 4.0,
            stop=Stop(Cause.DRAIN, (rung,), now - 12.0, now - 1.0),
            waiting_for='100% of "it"\n%s',
            status_text="50 % of é\u2028",
            in_flight=7,
            queue_depth=0,
            restarts=2,
            last_exit=an_exit(one.engine, "boom %d", "\x1b[31mred"),
        )
    )
