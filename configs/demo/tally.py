"""Count the tasks of the demo: queued, waiting, running, finished; the exit code is 1 if one was lost."""

import sys
import time
from pathlib import Path

import record
import tasks

RECENT_WORKERS = 8

# Between the queue and the first mark of its worker a task is nowhere, for some milliseconds.
SECOND_LOOK_SECONDS = 2.0


def lost() -> set[int]:
    """The tasks that are neither waiting, nor in the hands of a living worker, nor finished."""
    queued = set(record.marked("queued"))
    waiting = {task.args[0] for task in tasks.huey.pending()}
    started = record.marked("started")
    running = {task for task, pid in started.items() if Path(f"/proc/{pid}").exists()}
    return queued - waiting - running - set(record.marked("finished"))


def main() -> int:
    """Print the tally."""
    missing = lost()
    if missing:
        time.sleep(SECOND_LOOK_SECONDS)
        missing &= lost()
    started, finished = record.marked("started"), record.marked("finished")
    print(f"queued    {len(record.marked('queued')):6}")
    print(f"waiting   {tasks.huey.pending_count():6}")
    print(f"running   {len(set(started) - set(finished) - missing):6}")
    print(f"finished  {len(finished):6}")
    print(f"lost      {len(missing):6}  {' '.join(map(str, sorted(missing)))}")
    workers = record.finished_by_worker()
    print(f"\nfinished by (the latest {min(len(workers), RECENT_WORKERS)} of {len(workers)} generations):")
    for worker, count in workers[-RECENT_WORKERS:]:
        print(f"  {worker:24} {count:6}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
