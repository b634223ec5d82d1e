"""Says "up", then ignores every signal that can be ignored."""

import signal

for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
print("up", flush=True)
while True:
    signal.pause()
