"""Does tasks one after another and keeps a record of each: `begun N PID` and `done N PID`, a line each.

Arguments: RECORD SECONDS [drains]. TERM finishes the task in hand and then ends with code 0. With
`drains`, USR1 makes it take nothing new and say X_PITBOSS_DRAINED=1 when its hands are empty. It says
how much it holds over the notify socket.
"""

import os
import signal
import socket
import sys
import threading

record, seconds = sys.argv[1], float(sys.argv[2])
ending, draining = threading.Event(), threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ending.set())
if "drains" in sys.argv:
    signal.signal(signal.SIGUSR1, lambda *_: draining.set())
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
address = os.environ.get("NOTIFY_SOCKET", "")


def tell(text: str) -> None:
    """One message to the supervisor, if there is one."""
    if address:
        notify.sendto(text.encode(), address)


def note(line: str) -> None:
    """One line of the record, in one write."""
    descriptor = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


tell("READY=1")
number = 0
pause = threading.Event()
while not ending.is_set():
    if draining.is_set():
        tell("X_PITBOSS_INFLIGHT=0\nX_PITBOSS_DRAINED=1")
        while not ending.is_set():
            signal.pause()
        break
    number += 1
    tell("X_PITBOSS_INFLIGHT=1")
    note(f"begun {os.getpid()}-{number}")
    pause.wait(seconds)
    note(f"done {os.getpid()}-{number}")
    tell("X_PITBOSS_INFLIGHT=0\nX_PITBOSS_TASKS_COMPLETED=1")
