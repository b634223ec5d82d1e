"""As RQ does it: each job runs in a child with a process group of its own, which TERM does not reach.

Arguments: PIDFILE. The main process waits for its horse when it is told to end; the horse ignores
TERM and never finishes.
"""

import os
import signal
import sys

horse = os.fork()
if horse == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(sys.argv[1] + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    while True:
        signal.pause()
signal.signal(signal.SIGTERM, lambda *_: None)
os.waitpid(horse, 0)
