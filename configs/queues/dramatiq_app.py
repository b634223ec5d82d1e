"""The broker and the actor of `configs/dramatiq.yaml`: neither a stop nor SIGKILL loses a message."""

import os
import time

import dramatiq
import ledger
from dramatiq.brokers.redis import RedisBroker

from supervisor.worker import notify

# A process that has not been heard of for this long counts as dead, and others do what it held.
HEARTBEAT_TIMEOUT_MS = 10_000

# How many of a million commands to Redis look for what the dead held. Dramatiq's own is a thousand,
# which is right for a busy queue; three workers that wait send a few commands a second.
MAINTENANCE_CHANCE = 100_000


class SayReady(dramatiq.Middleware):
    """Tells the supervisor when this process takes messages; without a supervisor it does nothing."""

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Dramatiq calls this when its threads run."""
        notify.ready()


broker = RedisBroker(
    url=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    heartbeat_timeout=HEARTBEAT_TIMEOUT_MS,
    maintenance_chance=MAINTENANCE_CHANCE,
)
broker.add_middleware(SayReady())
dramatiq.set_broker(broker)


@dramatiq.actor
def work(task: int, seconds: float) -> None:
    """Take a while, and be counted."""
    with ledger.counted(task):
        time.sleep(seconds)


def submit(task: int, seconds: float) -> None:
    """Put one message into the queue."""
    work.send(task, seconds)
