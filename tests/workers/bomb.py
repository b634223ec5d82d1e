"""Forks quickly, each child again, up to a number of processes; all of them ignore TERM.

Arguments: COUNT DIRECTORY. Every process makes a file named after its pid in the directory. Half of
them leave for a session of their own.
"""

import os
import signal
import sys

count, directory = int(sys.argv[1]), sys.argv[2]
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    open(os.path.join(directory, str(os.getpid())), "w").close()
    if len(os.listdir(directory)) >= count:
        break
    if os.fork() == 0 and os.getpid() % 2:
        os.setsid()
while True:
    signal.pause()
