"""The least that a supervisor of one program can do, in Python: what `bound.c` does, and nothing else.

    python -I -S bare.py COUNT GRACE_MILLISECONDS DESCRIPTORS UID:GID PROGRAM ARGUMENT...

With a limit of 0, or a uid of 0, its own is kept. Neither asyncio nor much else is imported: what lies
between this and the bound in C is the interpreter, and what lies between this and pitboss is what that does.
"""

import os
import resource
import select
import signal
import sys
import time

IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""By every Python; what is ignored stays so over exec."""


class Bare:
    """Keeps `count` copies of a program alive until SIGTERM or SIGINT."""

    def __init__(self, count: int, grace: float, nofile: int, identity: tuple[int, int]) -> None:
        self.grace = grace
        self.nofile = nofile
        self.uid, self.gid = identity
        self.command = sys.argv[5:]
        self.living: dict[int, int] = {}
        self.kills_at: float | None = None
        self.ending = False
        self.epoll = select.epoll()
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.asked_to_end)
        self.epoll.register(reading, select.EPOLLIN)
        for _ in range(count):
            self.spawn()

    def spawn(self) -> None:
        """Start a copy. posix_spawn(3) sets neither limits nor users: for these a child is forked."""
        if self.uid or self.nofile:
            pid = os.fork()
            if pid == 0:
                try:
                    self.become()
                finally:
                    os._exit(127)
        else:
            program, environment = self.command[0], os.environ
            pid = os.posix_spawn(program, self.command, environment, setsid=True, setsigdef=IGNORED)
        pidfd = os.pidfd_open(pid)
        self.living[pidfd] = pid
        self.epoll.register(pidfd, select.EPOLLIN)

    def become(self) -> None:
        """In the child: what the worker is to have, and then the worker."""
        os.setsid()
        if self.nofile:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.nofile, self.nofile))
        if self.uid:
            os.setgroups([])
            os.setgid(self.gid)
            os.setuid(self.uid)
        os.execv(self.command[0], self.command)

    def asked_to_end(self, *_signal: object) -> None:
        """SIGTERM to all."""
        self.ending = True
        self.kills_at = time.monotonic() + self.grace
        self.signal_all(signal.SIGTERM)

    def signal_all(self, number: int) -> None:
        """By descriptor, as the bound does."""
        for pidfd in self.living:
            signal.pidfd_send_signal(pidfd, number)

    def run(self) -> None:
        """Replace who ends, and kill who is left when the window is over."""
        while not self.ending or self.living:
            left = -1.0 if self.kills_at is None else max(0.0, self.kills_at - time.monotonic())
            for descriptor, _ in self.epoll.poll(left, 64):
                if descriptor in self.living:
                    os.waitid(os.P_PIDFD, descriptor, os.WEXITED)
                    del self.living[descriptor]
                    os.close(descriptor)
                    if not self.ending:
                        self.spawn()
                else:
                    os.read(descriptor, 64)
            if self.kills_at is not None and time.monotonic() >= self.kills_at:
                self.kills_at = None
                self.signal_all(signal.SIGKILL)


def main() -> None:
    """Read the command line, and run."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    uid, gid = (int(one) for one in sys.argv[4].split(":"))
    Bare(int(sys.argv[1]), int(sys.argv[2]) / 1000, int(sys.argv[3]), (uid, gid)).run()


if __name__ == "__main__":
    main()
