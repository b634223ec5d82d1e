"""What the observers of one report cost: its log line in each form, and the counters of metrics.

The reports are those of a crash, the respawn and a stop. Lines go into a pipe that another process
reads, a turn of the loop after every step. CPU time of the thread, writing included; numbers depend on
the machine: compare them only within one run.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median

from supervisor.core.effects import Cause, Climbed, Ended, Moved, ReadyChanged, Report, StopEnded
from supervisor.core.exits import ExitClass, ExitRecord
from supervisor.core.identity import InstanceId
from supervisor.core.phases import Phase
from supervisor.core.plan import HostPlan, PoolPlan
from supervisor.core.state import Host, create
from supervisor.telemetry.logs import Form, configure
from supervisor.telemetry.metrics import Metrics
from supervisor.telemetry.move_log import MoveLog

ROUNDS = 15
CYCLES = 200
LINES = 7
"""That one cycle of the reports is told in."""

ONE = InstanceId("pool", 7)
STEPS: tuple[tuple[Report, ...], ...] = (
    (
        ReadyChanged(ONE, 4, False, "it has exited"),
        Ended(ONE, ExitRecord(4, ExitClass.SIGNAL, "SIGKILL", 5.0, 12.25, last_lines=("a", "last line"))),
        Moved(ONE, 4, Phase.RUNNING, Phase.BACKOFF, Cause.EXIT, "SIGKILL", None, 0.5),
    ),
    (Moved(ONE, 5, Phase.BACKOFF, Phase.STARTING, Cause.RETRY, "", None, 60.0),),
    (Moved(ONE, 5, Phase.STARTING, Phase.RUNNING, Cause.READY), ReadyChanged(ONE, 5, True, "", 0.3)),
    (
        Climbed(ONE, 5, "stage-1", 3.0, "exit", None, None, "1m86wmbhb4hbshfa"),
        StopEnded(ONE, 5, "clean", 3.0),
        Moved(ONE, 5, Phase.STOPPING, Phase.STOPPED, Cause.EXIT, "SIGTERM", None, None, "1m86wmbhb4hbshfa"),
    ),
)
REPORTS = sum(map(len, STEPS))

Observer = Callable[[Sequence[Report], Host, float], None]


async def seconds_a_cycle(observer: Observer) -> float:
    """CPU seconds of all the steps, a turn of the loop after each; the turns themselves are not counted."""
    host, spent = create(HostPlan("bench", {"pool": PoolPlan("pool", 10)})), []
    for _ in range(ROUNDS):
        turns = time.thread_time()
        for _ in range(CYCLES * len(STEPS)):
            await asyncio.sleep(0)
        began = time.thread_time()
        for _ in range(CYCLES):
            for step in STEPS:
                observer(step, host, 5.0)
                await asyncio.sleep(0)
        spent.append((time.thread_time() - began - (began - turns)) / CYCLES)
    return median(spent)


def _stdin(process: "subprocess.Popen[bytes]") -> int:
    assert process.stdin is not None
    return process.stdin.fileno()


def main() -> int:
    """Measure and print; always 0."""
    for form in (Form.JSON, Form.HUMAN, Form.JOURNAL):
        with (
            subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader,
            os.fdopen(os.dup(_stdin(reader)), "w") as stream,
        ):
            cost = asyncio.run(seconds_a_cycle(MoveLog(configure(stream, form=form))))
        print(f"a log line, {form:<8} {cost / LINES * 1e6:6.1f} us")
    cost = asyncio.run(seconds_a_cycle(Metrics(version="1")))
    print(f"a report counted     {cost / REPORTS * 1e6:6.1f} us")
    return 0


if __name__ == "__main__":
    sys.exit(main())
