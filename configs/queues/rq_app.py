"""The jobs and the worker class of `configs/rq.yaml`, so set that neither a stop nor SIGKILL loses a job."""

import os
import time

import ledger
from redis import Redis
from rq import Queue, Retry, Worker
from rq.job import Job

from supervisor.worker import notify

# How much longer than the interval of the heartbeats a job is waited for after its worker was killed.
# RQ's own is a minute.
MARGIN_SECONDS = 5


def work(task: int, seconds: float) -> None:
    """Take a while, and be counted."""
    with ledger.counted(task):
        time.sleep(seconds)


def submit(task: int, seconds: float) -> None:
    """Put one job into the queue. What was cut short is done again because it may be retried."""
    with Redis.from_url(os.environ.get("RQ_REDIS_URL", "redis://127.0.0.1:6379/0")) as connection:
        Queue(connection=connection).enqueue(work, task, seconds, retry=Retry(max=3), result_ttl=60)


class PatientWorker(Worker):
    """A worker that never leaves between taking a job and noting that it has it, and is missed soon."""

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> "tuple[Job, Queue] | None":
        """Wait for a job a second at a time, so that a request to stop is seen without an interruption."""
        notify.ready()
        while not self._stop_requested:
            found = super().dequeue_job_and_maintain_ttl(1, 1)
            if found is not None:
                return found
        return None

    def _shutdown(self) -> None:
        # RQ's own raises an exception out of the signal handler if no job is being done. If one has
        # just been taken from the queue, it is in nobody's hands for more than a minute.
        self._stop_requested = True

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        """After how many seconds without a heartbeat a job counts as abandoned."""
        return int(self.job_monitoring_interval) + MARGIN_SECONDS
