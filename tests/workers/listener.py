"""A worker that says what it was handed, then answers each connection with its pid and hangs up."""

import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress


def main() -> None:
    """Report, listen, answer; a first argument is the file for the report, else it is printed."""
    count = int(os.environ.get("LISTEN_FDS", "0"))
    found = {
        "environment": {name: value for name, value in os.environ.items() if name.startswith("LISTEN_")},
        "pid": os.getpid(),
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
        "blocking": [os.get_blocking(3 + number) for number in range(count)],
        "inheritable": [os.get_inheritable(3 + number) for number in range(count)],
        "inodes": [os.fstat(3 + number).st_ino for number in range(count)],
    }
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", encoding="utf-8") as file:
            json.dump(found, file)
        return
    print(json.dumps(found), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listeners = [socket.socket(fileno=3 + number) for number in range(count)]
    for listener in listeners:
        listener.setblocking(False)
    while True:
        for ready in select.select(listeners, [], [])[0]:
            # Whoever was accepted is answered, also when the end comes in between.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            with suppress(BlockingIOError), ready.accept()[0] as connection:
                connection.sendall(b"%d" % os.getpid())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


main()
