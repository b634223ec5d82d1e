"""Captured output: one pipe per instance, read in turn and within a budget, into a tail and a log file.

Decides who is read next and how much at a time, so that a flood delays nobody: neither the other
pipes nor the rest of the loop. Knows nothing about processes; whoever starts one is handed a
descriptor. A worker never waits for a log target: what cannot be written is dropped and counted.

Measured on 2 cores: one turn reads at most four blocks of 64 KiB, and every write(2) is of one block
at most. To a page cache that is some 30 microseconds; a device that throttles writers holds the
loop for as long as one such call takes, so put logs on a disk that can follow, or set a rate limit.
"""

import asyncio
import logging
import os
import select
import time
from collections.abc import Callable, Mapping

from supervisor.core.identity import InstanceId
from supervisor.core.launch import LogFormat, LogPolicy
from supervisor.runtime.disposal import Disposal
from supervisor.runtime.log_files import LogFile, OpenFiles
from supervisor.runtime.log_lines import Framing, RateLimit, Stamps, Tail, framing

log = logging.getLogger(__name__)

READS_PER_TURN = 4
"""Pipes asked at a time. Measured with 100 flooding pipes and 50 quiet workers killed one by one: two and
four full reads per turn of the loop replace one in 3.5 ms (median), eight in 4.2 ms, and four capture
15 % more than two, because fewer turns of the loop are made."""

BYTES_PER_TURN = 128 * 1024
"""A turn that has read this much is over; short reads are cheap, and up to `ROUNDS_PER_TURN` fit in one.
Bytes that are framed line by line count as many times as their blocks are smaller than raw ones."""

ROUNDS_PER_TURN = 8

DRAIN_BYTES = 1024 * 1024
"""Ceiling of what is read when a main process ended: the largest pipe an unprivileged worker can make."""

DRAIN_CPU_SECONDS = 0.002
"""And of the CPU time spent on it; what is left comes with the next turns."""

RAW_BYTES = 64 * 1024
"""The most that is read at a time: what a pipe holds, if nobody made it larger."""

# Framing costs per line, and a worker that writes only newlines makes 65536 of them per block.
_READ_BYTES: Mapping[LogFormat, int] = {
    LogFormat.RAW: RAW_BYTES,
    LogFormat.TIMESTAMP: 16 * 1024,
    LogFormat.JSON: 8 * 1024,
}


class _Totals:
    """Bytes read and dropped; of one instance, or of a pool since the daemon started."""

    __slots__ = ("dropped", "read")

    def __init__(self) -> None:
        self.read = 0
        self.dropped = 0


class _Stream:
    """The output of one instance, over all its generations."""

    __slots__ = (
        "_pool_totals",
        "descriptor",
        "file",
        "framing",
        "generation",
        "instance",
        "limit",
        "policy",
        "read_bytes",
        "tail",
        "totals",
        "watched",
        "weight",
    )

    def __init__(self, instance: InstanceId, descriptor: int, pool_totals: _Totals) -> None:
        self.instance = instance
        self.descriptor = descriptor
        self.watched = False
        self.generation = 0
        self.policy: LogPolicy | None = None
        self.tail = Tail()
        self.totals = _Totals()
        self._pool_totals = pool_totals
        self.file: LogFile | None = None
        self.framing: Framing | None = None
        self.limit: RateLimit | None = None
        self.read_bytes = RAW_BYTES
        self.weight = 1

    def begin(self, policy: LogPolicy, generation: int, files: OpenFiles, stamps: Stamps) -> None:
        """What follows is of this generation and goes where this policy says."""
        self.end_line()
        if policy != self.policy:
            self.policy = policy
            if self.file is not None:
                self.file.close()
                self.file = None
            self.limit = None
            self.framing = None
            if policy.directory is not None:
                self._to_file(policy, policy.directory, files, stamps)
        self.generation = generation
        if self.framing is not None:
            self.framing.generation = generation

    def _to_file(self, policy: LogPolicy, directory: str, files: OpenFiles, stamps: Stamps) -> None:
        self.framing = framing(policy.format, self.instance, stamps)
        path = os.path.join(directory, f"{self.instance.pool}-{self.instance.index}.log")
        self.file = LogFile(path, policy.max_bytes, policy.keep, files, self.framing.line)
        self.read_bytes = _READ_BYTES[policy.format]
        self.weight = RAW_BYTES // self.read_bytes
        if policy.rate_limit_bytes is not None:
            self.limit = RateLimit(policy.rate_limit_bytes, files.clock())

    def take(self, data: bytes, clock: Callable[[], float]) -> None:
        """A block was read."""
        count = len(data)
        self.totals.read += count
        self._pool_totals.read += count
        self.tail.add(data)
        if self.file is None or self.framing is None:
            return
        if self.limit is None:
            if dropped := self.file.write(self.framing.take(data)):
                self._drop(dropped)
            return
        gap, kept = self.limit.admit(data, clock())
        self._drop(count - len(kept))
        if gap:
            note = self.framing.line(f"[pitboss: {gap} bytes dropped by rate limit]")
            self._drop(self.file.write(self.framing.end_line() + note))
        if kept:
            self._drop(self.file.write(self.framing.take(kept)))

    def _drop(self, count: int) -> None:
        self.totals.dropped += count
        self._pool_totals.dropped += count

    def end_line(self) -> None:
        """End a line that nobody will finish, so that the next generation begins its own."""
        if self.file is not None and self.framing is not None:
            self._drop(self.file.write(self.framing.end_line()))


class Output:
    """The pipes, files and tails of all instances. Make it in the running loop."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._stamps = Stamps(wall)
        self._disposal = Disposal()
        self._files = OpenFiles(clock, self._disposal)
        self._streams: dict[InstanceId, _Stream] = {}
        self._by_descriptor: dict[int, _Stream] = {}
        self._pool_totals: dict[str, _Totals] = {}
        # All pipes in one epoll, which is one descriptor of the loop's own: the loop makes one handle
        # per turn instead of one per readable pipe. The kernel moves what it handed out to the end of
        # its ready list (level-triggered, ep_send_events), which is the round robin.
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._pump)

    def writer(
        self, instance: InstanceId, logs: LogPolicy, generation: int, *, owner: int | None = None
    ) -> int:
        """A blocking descriptor for the stdout and stderr of a generation; the caller closes it.

        It is open for reading too, so that the worker is its own reader and gets no SIGPIPE if the
        daemon dies. `owner` is the uid the worker will run as: with it a worker without root can open
        /dev/stdout. Raises OSError when there are no more descriptors.
        """
        stream = self._streams.get(instance)
        if stream is None:
            stream = self._make(instance)
        stream.begin(logs, generation, self._files, self._stamps)
        descriptor = os.open(f"/proc/self/fd/{stream.descriptor}", os.O_RDWR | os.O_CLOEXEC)
        if owner is not None and owner != os.geteuid():
            try:
                os.fchown(descriptor, owner, -1)
            except OSError as error:
                log.warning("cannot give the pipe of %s to uid %d: %s", instance, owner, error.strerror)
        self._watch(stream)
        return descriptor

    def _make(self, instance: InstanceId) -> _Stream:
        ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            # Open for writing too, a pipe has no end that would wake the loop each time a worker ends.
            reading = os.open(f"/proc/self/fd/{ends[0]}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        finally:
            for end in ends:
                os.close(end)
        totals = self._pool_totals.setdefault(instance.pool, _Totals())
        stream = _Stream(instance, reading, totals)
        self._streams[instance] = stream
        self._by_descriptor[reading] = stream
        return stream

    def _watch(self, stream: _Stream) -> None:
        if not stream.watched:
            self._epoll.register(stream.descriptor, select.EPOLLIN)
            stream.watched = True

    def _unwatch(self, stream: _Stream) -> None:
        if stream.watched:
            self._epoll.unregister(stream.descriptor)
            stream.watched = False

    def _pump(self) -> None:
        taken = 0
        for _ in range(ROUNDS_PER_TURN):
            ready = self._epoll.poll(0, READS_PER_TURN)
            for descriptor, _ in ready:
                stream = self._by_descriptor[descriptor]
                taken += stream.weight * self._serve(stream)
            if taken >= BYTES_PER_TURN or len(ready) < READS_PER_TURN:
                return

    def _serve(self, stream: _Stream) -> int:
        """Read one block; how many bytes. None are left (EAGAIN) if the worker reads its pipe itself."""
        try:
            data = os.read(stream.descriptor, stream.read_bytes)
        except BlockingIOError:
            return 0
        except OSError as error:
            log.error("cannot read the output of %s: %s; it is captured no more", stream.instance, error)  # noqa: TRY400
            self._unwatch(stream)
            return 0
        try:
            stream.take(data, self._clock)
        except Exception:
            # Whatever is wrong with the target, a pipe that is not read stops its worker.
            log.exception("cannot keep %d bytes of the output of %s", len(data), stream.instance)
        return len(data)

    def drain(self, instance: InstanceId) -> None:
        """Read what is in the pipe now: the last words of a main process that ended.

        At most `DRAIN_BYTES`, and no more than `DRAIN_CPU_SECONDS`: what it left behind may go on writing.
        """
        stream = self._streams.get(instance)
        if stream is None or not stream.watched:
            return
        taken, until = 0, time.thread_time() + DRAIN_CPU_SECONDS
        while taken < DRAIN_BYTES:
            count = self._serve(stream)
            taken += count
            if not count or time.thread_time() > until:
                return

    def tail(self, instance: InstanceId, lines: int) -> tuple[str, ...]:
        """The last lines of an instance, over its generations, printable; empty for an unknown one."""
        stream = self._streams.get(instance)
        return () if stream is None else stream.tail.lines(lines)

    def counters(self, instance: InstanceId) -> tuple[int, int]:
        """Bytes read from an instance and bytes of them dropped, since its pipe was made."""
        stream = self._streams.get(instance)
        return (0, 0) if stream is None else (stream.totals.read, stream.totals.dropped)

    def pool_counters(self) -> Mapping[str, tuple[int, int]]:
        """Bytes read and dropped for each pool since the daemon started, released instances included."""
        return {pool: (totals.read, totals.dropped) for pool, totals in self._pool_totals.items()}

    def release(self, instance: InstanceId) -> None:
        """The slot is gone: take its last words, then close its pipe and file and forget its tail."""
        stream = self._streams.get(instance)
        if stream is None:
            return
        self.drain(instance)
        stream.end_line()
        self._unwatch(stream)
        if stream.file is not None:
            stream.file.close()
        del self._streams[instance]
        del self._by_descriptor[stream.descriptor]
        os.close(stream.descriptor)

    def reopen(self) -> None:
        """Open all log files anew, after somebody (logrotate) renamed them."""
        for stream in self._streams.values():
            if stream.file is not None:
                stream.file.reopen()

    def close(self) -> None:
        """Release everything and leave the loop."""
        for instance in tuple(self._streams):
            self.release(instance)
        self._disposal.close()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
