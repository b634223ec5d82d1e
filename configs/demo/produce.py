"""Keep tasks flowing into the queue, but never let it grow without bound."""

import random
import signal
import threading

import record
import tasks

from supervisor.worker import notify

PAUSE_SECONDS = 0.4
LONGEST_QUEUE = 30

stop = threading.Event()


def ask_to_stop(*_: object) -> None:
    """Finish the step at hand, then leave."""
    stop.set()


signal.signal(signal.SIGTERM, ask_to_stop)
number = record.next_task()
while not stop.wait(PAUSE_SECONDS):
    waiting = tasks.huey.pending_count()
    notify.queue_depth(waiting)
    if waiting < LONGEST_QUEUE:
        record.mark(number, "queued")
        tasks.resize(number, round(random.uniform(0.5, 3.0), 1))
        number += 1
