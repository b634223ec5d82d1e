"""Says "up", then waits; a TERM ends it with code 0."""

import signal
import sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("up", flush=True)
while True:
    signal.pause()
