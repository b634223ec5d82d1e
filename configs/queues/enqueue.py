"""Let tasks flow into the queue of an example: `echo 500 | python enqueue.py celery`.

Each line of standard input is a number of tasks; they are sent at an even pace, and it ends with its input.
Most tasks take a few milliseconds, every tenth between one and one and a half seconds.
"""

import argparse
import importlib
import sys
import time

import ledger


def seconds_of(task: int) -> float:
    """How long a task takes, the same in every run."""
    if task % 10 == 0:
        return 1.0 + task // 10 % 6 / 10
    return 0.005 + task % 46 / 1000


def main() -> None:
    """Send what standard input asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("program", choices=["celery", "dramatiq", "huey", "rq"])
    parser.add_argument("--first", type=int, default=1, help="the number of the first task (1)")
    parser.add_argument("--per-second", type=float, default=20.0, help="how many are sent in a second (20)")
    parser.add_argument("--seconds", type=float, help="let every task take this long")
    options = parser.parse_args()
    ledger.create()
    submit = importlib.import_module(f"{options.program}_app").submit
    task = options.first
    for line in sys.stdin:
        for _ in range(int(line)):
            submit(task, seconds_of(task) if options.seconds is None else options.seconds)
            task += 1
            time.sleep(1 / options.per_second)


if __name__ == "__main__":
    main()
