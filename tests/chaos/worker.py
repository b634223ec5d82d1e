"""The worker of the storm: it does tasks and writes down all that happens to it, as it happens.

Arguments: RECORD LOCKS NAME=VALUE... A line of the record is one write to a file opened for appending:
`SECONDS WHAT INSTANCE GENERATION PID ROLE NAME=VALUE...`, seconds of CLOCK_MONOTONIC. It holds a lock on a
file of its instance, and so does all that it forks: a generation that cannot have the lock has begun
while something of an earlier one was alive.
"""

import _thread
import fcntl
import os
import signal
import socket
import sys
import time

# Whatever can be blocked waits until it is asked for, so that each signal is written down with its sender.
ASKED = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGCHLD}
signal.pthread_sigmask(signal.SIG_BLOCK, ASKED)

RECORD, LOCKS = sys.argv[1:3]
SHAPE = dict(option.split("=", 1) for option in sys.argv[3:])
INSTANCE, GENERATION = os.environ["PITBOSS_INSTANCE"], int(os.environ["PITBOSS_GENERATION"])
INDEX = int(INSTANCE.rpartition("/")[2])
FILE = f"{INSTANCE.replace('/', '-')}-{GENERATION}"
TICK_SECONDS = 0.25


def note(what: str, role: str = "main", **facts: object) -> None:
    """One line of the record."""
    said = "".join(f" {name}={value}" for name, value in facts.items())
    line = f"{time.monotonic():.6f} {what} {INSTANCE} {GENERATION} {os.getpid()} {role}{said}\n"
    descriptor = os.open(RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def spawned() -> float:
    """When the kernel began this process, monotonic seconds to a hundredth."""
    with open("/proc/self/stat", "rb") as stat:
        ticks = int(stat.read().rpartition(b")")[2].split()[19])
    asleep = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return ticks / os.sysconf("SC_CLK_TCK") - asleep


def began(role: str) -> None:
    """Say that this process lives, and since when."""
    note("began", role, spawned=f"{spawned():.3f}", parent=os.getppid(), daemon=DAEMON)


def take_lock() -> str:
    """`free` if nothing of an earlier generation lives, else who had it."""
    descriptor = os.open(os.path.join(LOCKS, INSTANCE.replace("/", "-")), os.O_RDWR | os.O_CREAT, 0o666)
    os.set_inheritable(descriptor, True)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return f"held-by-{os.pread(descriptor, 64, 0).decode().strip()}"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{GENERATION}:{os.getpid()}\n".encode(), 0)
    return "free"


class Dice:
    """Numbers that look random and are the same for the same generation: `random` takes long to import."""

    def __init__(self) -> None:
        self.state = 0xCBF29CE484222325
        for byte in f"{SHAPE.get('seed', 0)} {INSTANCE} {GENERATION}".encode():
            self.state = ((self.state ^ byte) * 0x100000001B3) % (1 << 64)

    def between(self, low: float, high: float) -> float:
        """The next number."""
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return low + (high - low) * (self.state >> 11) / (1 << 53)


NOTIFY = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)


def tell(text: str) -> None:
    """One message to the supervisor; dropped when it does not listen (it may be stopped)."""
    try:
        NOTIFY.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
    except OSError:
        note("untold", text=text.replace("\n", ","))


def must_tell(text: str) -> None:
    """A message that must arrive: wait until there is room."""
    NOTIFY.setblocking(True)
    tell(text)
    NOTIFY.setblocking(False)


def touch(path: str) -> None:
    """Make a file that a check looks for."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))


def serve(path: str) -> None:
    """Answer every HTTP request with 200, as fast as its bytes come."""
    if os.path.exists(path):
        os.unlink(path)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(16)

    def answer() -> None:
        while True:
            asker, _ = server.accept()
            try:
                asker.settimeout(2)
                asker.recv(65536)
                asker.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            except OSError:
                pass
            asker.close()

    _thread.start_new_thread(answer, ())


def sit(role: str) -> None:
    """What a child does: wait for a TERM, and go with it unless it is stubborn."""
    began(role)
    while True:
        told = signal.sigwaitinfo(ASKED)
        name = signal.Signals(told.si_signo).name
        note("signal", role, name=name, sender=told.si_pid)
        if name == "SIGTERM" and not (role == "grandchild" and INDEX % 3 == 2):
            note("exit", role, code=0)
            os._exit(0)


def fork_family() -> int:
    """A child in a session of its own, and a grandchild that nobody is the parent of. The child's pid."""
    child = os.fork()
    if child == 0:
        os.setsid()
        sit("child")
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork() == 0:
            sit("grandchild")
        os._exit(0)
    os.waitpid(middle, 0)
    return child


class Worker:
    """The main process: one task after another until it is told otherwise."""

    def __init__(self) -> None:
        self.dice = Dice()
        self.now = time.monotonic()
        low, high = (float(part) for part in SHAPE.get("task", "0.1-0.8").split("-"))
        self.low, self.high = low, high
        self.task, self.task_until, self.number = 0, 0.0, 0
        self.draining = self.idle = self.ending = False
        self.said_at = 0.0
        self.crash_at = self.now + self.dice.between(0.3, 2.0)
        self.crashes = self.dice.between(0, 1) < float(SHAPE.get("crash", "0"))
        self.child = 0

    def run(self) -> None:
        """Boot, then turn the loop until it is over."""
        if SHAPE.get("family"):
            self.child = fork_family()
        if SHAPE.get("ready") == "http":
            serve(os.path.join(SHAPE["files"], INSTANCE.replace("/", "-")))
        self.wait(float(SHAPE.get("boot", "0.2")))
        note("ready")
        if SHAPE.get("ready") == "notify":
            must_tell("READY=1")
        if SHAPE.get("ready") == "exec":
            touch(os.path.join(SHAPE["files"], f"ready-{FILE}"))
        while not self.over():
            self.turn()

    def wait(self, seconds: float) -> None:
        """Let time pass, and note what is heard meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.listen(left)

    def listen(self, seconds: float) -> None:
        """Hear one signal, if one comes in this time."""
        told = signal.sigtimedwait(ASKED, seconds)
        # Interrupted by a stop for longer than its time, Python 3.11 returns what happened to be in memory.
        if told is None or told.si_signo not in ASKED:
            return
        name = signal.Signals(told.si_signo).name
        note("signal", name=name, sender=told.si_pid)
        if name == "SIGTERM" and not SHAPE.get("stubborn"):
            self.ending = True
        if name == "SIGUSR1":
            self.draining = True

    def turn(self) -> None:
        """One turn of the loop: begin a task, wait, end it."""
        if not self.task and not self.draining and not self.ending:
            self.number += 1
            self.task = self.number
            self.task_until = time.monotonic() + self.dice.between(self.low, self.high)
            note("begun", task=self.task)
            self.report("X_PITBOSS_INFLIGHT=1")
        left = self.task_until - time.monotonic() if self.task else TICK_SECONDS
        self.listen(max(0.0, min(left, TICK_SECONDS)))
        if self.task and time.monotonic() >= self.task_until:
            note("done", task=self.task)
            os.write(1, f"{INSTANCE} did task {self.task} {'.' * 150}\n".encode())
            self.task = 0
            self.report("X_PITBOSS_INFLIGHT=0\nX_PITBOSS_TASKS_COMPLETED=1")
        if self.draining and not self.task and not self.idle:
            self.idle = True
            note("drained")
            touch(os.path.join(SHAPE["files"], f"idle-{FILE}"))
            if SHAPE.get("says_drained"):
                must_tell("X_PITBOSS_DRAINED=1")
        if SHAPE.get("watchdog") and time.monotonic() - self.said_at > TICK_SECONDS:
            self.said_at = time.monotonic()
            tell("WATCHDOG=1")

    def report(self, text: str) -> None:
        """Say how much it holds, where the shape asks for it."""
        if SHAPE.get("reports"):
            tell(text)

    def over(self) -> bool:
        """End if it is time to: in order, or by a crash of its own."""
        if self.ending and not self.task:
            self.leave()
            note("exit", code=0)
            os._exit(0)
        if self.crashes and time.monotonic() >= self.crash_at and not os.path.exists(SHAPE["calm"]):
            if INDEX % 2:
                note("exit", code=3)
                os._exit(3)
            note("exit", signal="SIGALRM")
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
            os.kill(os.getpid(), signal.SIGALRM)
        return False

    def leave(self) -> None:
        """Half of those with children end one of them; the rest is left behind on purpose."""
        if self.child and INDEX % 2 == 0:
            try:
                os.kill(self.child, signal.SIGTERM)
                os.waitpid(self.child, 0)
            except (ProcessLookupError, ChildProcessError):
                note("childless")


def complete() -> None:
    """A task of the boot: the first try fails."""
    if GENERATION == 1 and SHAPE.get("fails"):
        note("exit", code=1)
        os._exit(1)
    note("exit", code=0)
    os._exit(0)


DAEMON = os.getppid()
lock = take_lock()
note("began", spawned=f"{spawned():.3f}", parent=DAEMON, daemon=DAEMON, lock=lock)
if SHAPE.get("completes"):
    complete()
Worker().run()
