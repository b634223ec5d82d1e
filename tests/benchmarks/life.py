"""One life of a supervisor with N workers, and what is measured in it.

Every number is of the same kind for every subject: what a worker's own clock or the kernel's news of
its end says. Nothing here knows which supervisor it is.
"""

import math
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.kin import Use, Watch, descendants, memory_mib, sweep, use
from tests.benchmarks.ours import built
from tests.benchmarks.records import Record, Records
from tests.benchmarks.subject import Job, Rotation, Subject

START_WITHIN = 60.0
REPLACE_WITHIN = 15.0
END_WITHIN = 45.0
SETTLE_SECONDS = 1.1
"""s6 and runit restart a worker at once only if it has been up for a second."""


class LifeError(Exception):
    """A supervisor did not do what every supervisor does; the message says what, and its last output."""


def rest(seconds: float) -> None:
    """Let time pass that is part of what is measured."""
    threading.Event().wait(seconds)


@dataclass
class Life:
    """A supervisor that runs, its workers' records, and the pids of the living ones."""

    subject: Subject
    job: Job
    records: Records
    process: subprocess.Popen[bytes]
    launched: float
    settle_seconds: float
    workers: list[int] = field(default_factory=list)
    began: list[Record] = field(default_factory=list)

    @property
    def gate(self) -> Path:
        """A FIFO at which workers wait until somebody opens it for writing."""
        return self.records.path.with_name("gate")

    def wait_started(self) -> None:
        """Wait until all workers have begun."""
        self.began = self.records.take(self.job.instances, START_WITHIN)
        self.workers = [record.pid for record in self.began]

    def supervisors(self) -> set[int]:
        """The process that was started and all below it that are not workers."""
        return {self.process.pid, *descendants(self.process.pid)} - set(self.workers)


@contextmanager
def _directories() -> Iterator[tuple[str, Path, Path]]:
    """In memory the one of a life, on a disk that for what lasts, in memory that for rotated files.

    Sockets, FIFOs and service directories are where /run would have them. On a disk they would be measured
    instead of who made them: ext4 looks for inodes that were not freed within the last seconds, and a
    benchmark, which removes a thousand files to make a thousand again, has only such; that was a third of
    a start of a thousand. All names contain that of the first, which so marks whatever runs here.
    """
    with (
        tempfile.TemporaryDirectory(prefix="b-", dir="/dev/shm", ignore_cleanup_errors=True) as name,
        tempfile.TemporaryDirectory(
            prefix=f"{Path(name).name}-", dir="/tmp", ignore_cleanup_errors=True
        ) as lasting,
        tempfile.TemporaryDirectory(
            prefix=f"{Path(name).name}-", dir="/dev/shm", ignore_cleanup_errors=True
        ) as kept,
    ):
        yield name, Path(lasting), Path(kept)


@contextmanager
def life(
    subject: Subject,
    instances: int,
    *,
    grace: int = 10,
    words: tuple[str, ...] = (),
    program: str = "worker",
    rotation: tuple[int, int] | None = None,
    nofile: int = 0,
    user: str = "",
    shared: bool = False,
    settle: float = SETTLE_SECONDS,
) -> Iterator[Life]:
    """Start it, wait for its workers, and leave nothing of it behind.

    The workers run `program` with the path of the records and these words. With a rotation (bytes of a
    file, old files kept) their output goes into files that are rotated. A shared socket is in the
    directory of the life.
    """
    with _directories() as (name, lasting, kept):
        Path(name).chmod(0o755)
        records = Records(Path(name) / "fifo")
        os.mkfifo(records.path.with_name("gate"))
        directory = Path(name) / "d"
        directory.mkdir()
        words = tuple(word.format(directory=name, descriptor=subject.shares) for word in words)
        command = (str(built(program, "-static")), str(records.path), *words)
        logs = Rotation(kept, *rotation) if rotation else None
        listens = Path(name) / "web" if shared else None
        job = Job(directory, lasting, command, instances, grace, logs, nofile, user, listens)
        supervisor = subject.configure(job)
        launched = time.monotonic()
        one = Life(subject, job, records, subject.start(job, supervisor), launched, settle)
        try:
            one.wait_started()
            yield one
        except Exception as error:
            output = (directory / "output").read_text(errors="replace").splitlines()
            raise LifeError(f"{type(error).__name__}: {error}; its last words: {output[-3:]}") from error
        finally:
            if one.process.poll() is None:
                one.process.kill()
            one.process.wait()
            sweep(Path(name).name)
            records.close()


def start(one: Life) -> dict[str, float]:
    """Milliseconds until the last worker had begun: since the launch, and since the first began."""
    times = [record.seconds for record in one.began]
    return {
        "start": (max(times) - one.launched) * 1000,
        "start, first to last": (max(times) - min(times)) * 1000,
    }


def replacements(
    one: Life, kills: int, *, pause: float | None = None, within: float = math.inf
) -> list[float]:
    """Kill workers one after the other; milliseconds from each SIGKILL to its replacement's begin.

    No other is killed when so many seconds are over.
    """
    rest(one.settle_seconds)
    found = []
    watch = Watch()
    quiet = [index for index, record in enumerate(one.began) if record.kind == "B"]
    watch.add(one.workers)
    if pause is None:
        pause = one.subject.pause_seconds if one.job.instances >= kills else one.settle_seconds
    until = time.monotonic() + within
    for count in range(kills):
        if time.monotonic() > until:
            break
        place = quiet[count * 7 % len(quiet)]
        before = watch.kill(one.workers[place])
        record = one.records.take(1, REPLACE_WITHIN)[0]
        found.append((record.seconds - before) * 1000)
        one.workers[place] = record.pid
        watch.add([record.pid])
        rest(pause)
    watch.close()
    return found


def replaced_together(one: Life) -> float:
    """SIGKILL all workers at once; milliseconds from the first to the last replacement's begin."""
    rest(one.settle_seconds)
    watch = Watch()
    watch.add(one.workers)
    before = min([watch.kill(pid) for pid in one.workers])
    found = one.records.take(one.job.instances, START_WITHIN)
    watch.close()
    one.workers = [record.pid for record in found]
    return (max(record.seconds for record in found) - before) * 1000


def stop(one: Life) -> dict[str, float]:
    """Milliseconds from the wish until the last worker, and until everything, has ended."""
    watch = Watch()
    workers = set(one.workers)
    watch.add({*one.workers, *one.supervisors()})
    before = time.monotonic()
    one.subject.stop(one.process, one.job)
    if not watch.wait(END_WITHIN):
        raise TimeoutError(f"{one.subject.name} has not ended after {END_WITHIN:g} s")
    ended = watch.ended
    watch.close()
    last_worker = max((at for pid, at in ended.items() if pid in workers), default=before)
    return {"stop": (max(ended.values()) - before) * 1000, "stop, workers": (last_worker - before) * 1000}


def overshoot(one: Life) -> float:
    """Stop workers that do not end; milliseconds past its grace window that the last of them lived."""
    rest(one.settle_seconds)
    watch = Watch()
    watch.add(one.workers)
    one.subject.stop(one.process, one.job)
    if not watch.wait(END_WITHIN):
        raise TimeoutError(f"{one.subject.name} has not killed its hung workers after {END_WITHIN:g} s")
    told = {record.pid: record.seconds for record in one.records.waiting() if record.kind == "T"}
    ended = watch.ended
    watch.close()
    untold = sum(pid not in told for pid in ended)
    if untold:
        raise ValueError(f"{one.subject.name} killed {untold} workers that it had not told to end")
    # The first SIGTERM counts: some say it twice.
    return max(ended[pid] - told[pid] - one.job.grace_seconds for pid in ended) * 1000


def memory(one: Life) -> dict[str, float]:
    """MiB of all its processes that are not workers."""
    rss, pss = memory_mib(one.supervisors())
    return {"RSS": rss, "PSS": pss}


def idle(one: Life, before: Use, seconds: float) -> dict[str, float]:
    """Since `before`: CPU seconds a minute, and wake-ups a second."""
    now = use(one.supervisors())
    return {
        "idle CPU": (now.cpu_seconds - before.cpu_seconds) / seconds * 60,
        "idle wake-ups": (now.sleeps - before.sleeps) / seconds,
    }
