"""A process that has nothing to do with the daemon. Argument: RECORD. Notes every signal with its sender."""

import os
import signal
import sys

asked = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV}
signal.pthread_sigmask(signal.SIG_BLOCK, asked)
os.setsid()
while True:
    told = signal.sigwaitinfo(asked)
    descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, f"{os.getpid()} {signal.Signals(told.si_signo).name} {told.si_pid}\n".encode())
    os.close(descriptor)
