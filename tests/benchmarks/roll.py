"""A rolling restart of a web pool behind one socket, under a client that asks at a steady pace.

The workers (`web.c`) share a unix socket that their supervisor holds, so that nobody needs to be refused
while they are replaced. The client asks without keep-alive: each request is a connection of its own, and
one that is refused, cut off or not answered is a failure, without the race in which a server closes a
connection while the client asks on it again. A request counts from when it was due.

Everybody rolls as its manual has it, and nothing here knows how. A supervisor that holds no socket for its
workers (s6, runit) or none for programs that are not JavaScript (pm2) is not measured.
"""

import time
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.kin import Watch
from tests.benchmarks.life import START_WITHIN, life, rest
from tests.benchmarks.load import client
from tests.benchmarks.subject import Endpoint, Subject

MOST_A_SECOND = 1000.0
EACH_A_SECOND = 50.0
"""Requests for each worker, so that it is busy for a quarter of the time: a pool that has to spare."""
REQUEST = "GET / HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n\r\n"
ROLLED_WITHIN = 60.0
AROUND_SECONDS = 0.5
"""How long the client asks before the restart, and after it."""


def rolled(subject: Subject, instances: int) -> dict[str, float]:
    """Replace all workers, none of which the client is to notice."""
    words = ("{descriptor}",)
    with life(subject, instances, program="web", words=words, shared=True) as one:
        assert one.job.listens is not None
        rest(one.settle_seconds)
        watch = Watch()
        watch.add(one.workers)
        listener = Endpoint(one.job.listens, {})
        rate = min(MOST_A_SECOND, EACH_A_SECOND * instances)
        with (
            client(listener, REQUEST, rate=rate) as steady,
            ThreadPoolExecutor(1) as wish,
        ):
            rest(AROUND_SECONDS)
            before = time.monotonic()
            wished = wish.submit(subject.roll, one.process, one.job)
            if not watch.wait(ROLLED_WITHIN):
                raise TimeoutError(f"{subject.name} has not replaced all after {ROLLED_WITHIN:g} s")
            wished.result(ROLLED_WITHIN)
            began = one.records.take(instances, START_WITHIN)
            rest(AROUND_SECONDS)
            heard = steady.end()
        ended = max(watch.ended.values())
        watch.close()
    return {
        "roll": (max(ended, *(record.seconds for record in began)) - before) * 1000,
        "roll, failed requests": heard.failed,
        "roll, p99 of answers": heard.p99,
        "roll, slowest answer": heard.slowest,
    }
