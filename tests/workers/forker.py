"""Leaves a stubborn grandchild somewhere, writes its pid to a file, then lives or ends as told.

Arguments: FORM PIDFILE END. FORM is `same-group`, `new-group`, `new-session` or `daemon` (double fork,
a session of its own, an empty environment, no descriptors kept). END is `wait` (a TERM ends it with
code 0), `exit` (code 0 at once) or `crash` (SIGKILL by its own hand).
"""

import os
import signal
import sys

CHILD = """
import os, signal, sys
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True:
    signal.pause()
"""


def become_the_grandchild(form: str, pidfile: str) -> None:
    """Leave as the form says, and go on as the stubborn process."""
    environment = dict(os.environ)
    if form == "new-group":
        os.setpgid(0, 0)
    if form in {"new-session", "daemon"}:
        os.setsid()
    if form == "daemon":
        if os.fork():
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        environment = {}
    os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", CHILD, pidfile], environment)


def main() -> None:
    """Fork, wait until the grandchild is at its work, and go on as told."""
    form, pidfile, end = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    child = os.fork()
    if child == 0:
        become_the_grandchild(form, pidfile)
    if form == "daemon":
        os.waitpid(child, 0)
    while not os.path.exists(pidfile):
        pass
    if end == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "wait":
        # Not pause(2): a TERM between the last look at signals and the call would be slept through.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()
