"""The client of `client.c` for circus, which answers on ZeroMQ; run by the Python that circus has.

    ask_circus.py SOCKET CONNECTIONS RATE SECONDS REQUEST...

Same words, same line at the end; it knows no RATE but 0, and a request is one message of JSON without its
id. Being Python it takes more of the cores than the other: read circus's answers with that in mind.
"""

import itertools
import json
import signal
import sys
import time

import zmq  # type: ignore[import-not-found]

PATIENCE_MS = 10_000


def ranked(times: list[float], part: float) -> float:
    """The time at this part of the sorted ones, in milliseconds."""
    return times[int((len(times) - 1) * part + 0.5)] * 1000 if times else 0.0


def main(path: str, connections: int, seconds: float, requests: list[str]) -> None:
    """Ask until the time is over or SIGTERM comes, and print what was heard."""
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    context, poller, turns = zmq.Context(), zmq.Poller(), itertools.count()
    since: dict[zmq.Socket, float] = {}
    times: list[float] = []
    failed = 0

    def ask(one: zmq.Socket) -> None:
        number = next(turns)
        since[one] = time.monotonic()
        one.send_json({**json.loads(requests[number % len(requests)]), "id": str(number)})

    began = time.monotonic()
    for _ in range(connections):
        one = context.socket(zmq.DEALER)
        one.setsockopt(zmq.LINGER, 0)
        one.connect(f"ipc://{path}")
        poller.register(one, zmq.POLLIN)
        ask(one)
    while not ending and (not seconds or time.monotonic() < began + seconds):
        for one, _ in poller.poll(PATIENCE_MS if not seconds else 100):
            failed += one.recv_json().get("status") in ("error", None)
            times.append(time.monotonic() - since[one])
            ask(one)
    spent = time.monotonic() - began
    times.sort()
    shown = " ".join(f"{ranked(times, part):.4f}" for part in (0.5, 0.99, 1.0))
    print(f"{len(times) - failed} {failed} {spent:.3f} {shown}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[4]), sys.argv[5:])
