"""What a supervisor's control plane answers, and how soon it replaces a worker while clients keep it busy.

The client is `client.c`: eight connections on the unix socket of the supervisor, each of which asks again
as soon as it is answered. With the supervisor and the workers it has the machine's cores to share, so a
number is of all of them. It carries the directory of its life in its words and ends with that life.

Who has no endpoint is not measured here. The bound has none either and is measured undisturbed, as the
other side of the ratio. circus answers on ZeroMQ and has a client of its own, `ask_circus.py`. Decides
nothing about what a supervisor is asked: that is each subject's `endpoint`.
"""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from itertools import cycle
from math import ceil
from pathlib import Path
from statistics import median

from tests.benchmarks.kin import use
from tests.benchmarks.life import Life, life, replacements, rest
from tests.benchmarks.ours import built
from tests.benchmarks.subject import Endpoint, Subject

CONNECTIONS = 8
LISTENS_WITHIN = 30.0
HEARD_WITHIN = 30.0
WARM_REQUESTS = 20
KILLING_SECONDS = 20.0
"""A supervisor that takes a second for a replacement is not killed a hundred workers of in a round."""


@dataclass(frozen=True)
class Heard:
    """What a client was told: see client.c. Times in milliseconds."""

    answers: int
    failed: int
    seconds: float
    median: float
    p99: float
    slowest: float


class Client:
    """A client that asks until its time is over, or until it is told to end."""

    def __init__(self, endpoint: Endpoint, requests: tuple[str, ...], rate: float, seconds: float) -> None:
        program = endpoint.client or (str(built("client", "-static")),)
        words = (str(endpoint.path), str(CONNECTIONS), str(rate), str(seconds), *requests)
        _wait_for_a_listener(endpoint.path)
        self._process = subprocess.Popen([*program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def heard(self) -> Heard:
        """Wait for its end, and what it was told."""
        output, _ = self._process.communicate(timeout=HEARD_WITHIN)
        answers, failed, *rest_of_it = output.split()
        return Heard(int(answers), int(failed), *map(float, rest_of_it))

    def end(self) -> Heard:
        """Let it ask nothing more."""
        self._process.terminate()
        return self.heard()

    def close(self) -> None:
        """Reap it, whatever became of it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


@contextmanager
def client(endpoint: Endpoint, *requests: str, rate: float = 0, seconds: float = 0) -> Iterator[Client]:
    """A client that does not outlive this."""
    one = Client(endpoint, requests, rate, seconds)
    try:
        yield one
    finally:
        one.close()


def _wait_for_a_listener(path: Path) -> None:
    until = time.monotonic() + LISTENS_WITHIN
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        if time.monotonic() > until:
            raise TimeoutError(f"nobody listens on {path} after {LISTENS_WITHIN:g} s")
        rest(0.01)


def _all_answered(heard: Heard) -> Heard:
    if heard.failed or not heard.answers:
        raise ValueError(f"{heard.answers} answers, and {heard.failed} requests failed")
    return heard


def killed_under(load: str, one: Life, kills: int) -> dict[str, float]:
    """Kill workers one after the other while something else goes on, and name what was measured after it."""
    found = sorted(replacements(one, kills, pause=one.subject.pause_seconds, within=KILLING_SECONDS))
    name = f"kill to replacement, {load}"
    # By rank: of a hundred it is the last but one.
    return {
        name: median(found),
        f"{name}, p99": found[ceil(0.99 * len(found)) - 1],
        f"{name}, slowest": found[-1],
    }


def bothered(subject: Subject, instances: int, *, kills: int) -> dict[str, float]:
    """Kill workers while clients ask for everything there is, again and again."""
    with life(subject, instances) as one:
        endpoint = subject.endpoint(one.job)
        if endpoint is None:
            return killed_under("clients", one, kills)
        requests = [request for what, request in endpoint.questions.items() if what != "small"]
        with client(endpoint, *requests) as busy:
            found = killed_under("clients", one, kills)
            heard = _all_answered(busy.end())
    return found | {"answers meanwhile": heard.answers / heard.seconds}


def be_asked(one: Life) -> None:
    """Ask it a few times, so that nothing of its control plane is still to be loaded or made."""
    endpoint = one.subject.endpoint(one.job)
    if endpoint is None or endpoint.client:
        return
    _wait_for_a_listener(endpoint.path)
    for _, request in zip(range(WARM_REQUESTS), cycle(endpoint.questions.values()), strict=False):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(endpoint.path))
            connection.sendall(request.encode())
            answer = HTTPResponse(connection)
            answer.begin()
            answer.read()


def asking(subject: Subject, instances: int, *, seconds: float) -> dict[str, float]:
    """Ask one kind of question after the other, each for so many seconds."""
    found: dict[str, float] = {}
    with life(subject, instances) as one:
        endpoint = subject.endpoint(one.job)
        assert endpoint is not None
        rest(one.settle_seconds)
        for what, request in endpoint.questions.items():
            supervisors = one.supervisors()
            before = use(supervisors)
            with client(endpoint, request, seconds=seconds) as busy:
                heard = _all_answered(busy.heard())
            used = use(supervisors).cpu_seconds - before.cpu_seconds
            found |= {
                f"answers, {what}": heard.answers / heard.seconds,
                f"answer, {what}, median": heard.median,
                f"answer, {what}, p99": heard.p99,
                f"CPU of an answer, {what}": used / heard.answers * 1000,
            }
    return found
