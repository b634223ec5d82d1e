"""Stop ladders for well-known workers.

Decides which signal each of them takes for a graceful stop, and why. A preset only fills in what the
manifest does not say; it is a table, so that the reference prints it and a test reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from supervisor.core.plan import Stage, Target


@dataclass(frozen=True, slots=True)
class Preset:
    """A ladder, the reason for it, and where the worker has one, a signal that means "take nothing new"."""

    stages: tuple[Stage, ...]
    why: str
    drain_signal: str | None = None
    drain_window_seconds: float = 0.0


def _main(signal: str, grace_seconds: float) -> Stage:
    return Stage(signal, Target.MAIN, grace_seconds)


_REST = Stage("SIGTERM", Target.ALL, 5.0)

PRESETS: Mapping[str, Preset] = {
    "celery": Preset(
        (_main("SIGTERM", 60.0), _main("SIGQUIT", 10.0), _REST),
        "SIGTERM to the main process is the warm shutdown and waits for running tasks without a limit; "
        "SIGQUIT is the cold one. Its children do not survive a SIGTERM of their own and lose the task.",
    ),
    "rq": Preset(
        (_main("SIGTERM", 60.0), _main("SIGTERM", 5.0), _REST),
        "The first SIGTERM lets the current job finish; a second one, a second or more later, ends the job's "
        "process, which is in a group of its own.",
    ),
    "dramatiq": Preset(
        (_main("SIGTERM", 60.0), _main("SIGTERM", 5.0), _REST),
        "The main process passes SIGTERM on and the workers finish their messages; the second one makes them "
        "exit at once, so nothing may send it early to the whole tree.",
    ),
    "huey": Preset(
        (_main("SIGINT", 60.0), _main("SIGINT", 5.0), _REST),
        "The consumer finishes its tasks on SIGINT, and while it does so only a second SIGINT cuts them "
        "short. SIGTERM cuts them short at once (unless its graceful-signal option says otherwise).",
    ),
    "sidekiq": Preset(
        (_main("SIGTERM", 30.0), _REST),
        "SIGTSTP stops fetching; after SIGTERM it waits 25s by its own default, then hands unfinished jobs "
        "back to Redis, for which it needs a few seconds more.",
        drain_signal="SIGTSTP",
        drain_window_seconds=10.0,
    ),
    "gunicorn": Preset(
        (_main("SIGTERM", 35.0), _main("SIGQUIT", 5.0), _REST),
        "SIGTERM waits for its graceful_timeout, 30s by default; SIGQUIT cuts that short.",
    ),
    "uvicorn": Preset(
        (_main("SIGTERM", 30.0), _main("SIGINT", 5.0), _REST),
        "SIGTERM waits for open requests without a limit, and a second one changes nothing. SIGINT after it "
        "forces the exit, from Python 3.12 on only when no connection is open: give it "
        "--timeout-graceful-shutdown=25.",
    ),
    "nginx": Preset(
        (_main("SIGQUIT", 60.0), _main("SIGTERM", 5.0), _REST),
        "SIGQUIT finishes open requests; SIGTERM is the fast shutdown that drops them.",
    ),
    "php-fpm": Preset(
        (_main("SIGQUIT", 60.0), _main("SIGTERM", 5.0), _REST),
        "SIGQUIT finishes open requests (within its process_control_timeout); SIGTERM drops them.",
    ),
    "puma": Preset(
        (_main("SIGTERM", 35.0), _REST),
        "SIGTERM finishes open requests; a cluster gives its workers 30s by default.",
    ),
    "postgresql": Preset(
        (_main("SIGINT", 60.0), _main("SIGQUIT", 10.0)),
        "SIGINT is the fast shutdown: clients are disconnected and the data is written. SIGTERM would wait "
        "for every client to leave; SIGQUIT means recovery at the next start.",
    ),
    "redis": Preset(
        (_main("SIGTERM", 60.0), _main("SIGINT", 5.0), _REST),
        "SIGTERM saves and exits, which takes as long as the data is large; a SIGINT after it exits at once.",
    ),
    "node": Preset(
        (_main("SIGINT", 25.0), _main("SIGTERM", 5.0), _REST),
        "Programs written for pm2 handle SIGINT and die of SIGTERM. One that handles SIGTERM needs none.",
    ),
}
"""The presets by name. Sources: the manuals and the code of these workers; the ladders of the queue
workers were tried with the real ones."""
