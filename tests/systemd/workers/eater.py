"""Waits until the file that its argument names is there, then takes memory until somebody minds."""

import sys
import time
from pathlib import Path

while not Path(sys.argv[1]).exists():
    time.sleep(0.1)
eaten: list[bytes] = []
while len(eaten) < 300:
    eaten.append(b"x" * (1 << 20))
sys.exit("300 MiB, and nobody minds")
