"""Hear what workers say: one sd_notify socket per instance, and who may speak on it.

Decides whose datagrams count. The path names the instance; the sender's credentials, written by the
kernel, must name a process of the instance's current generation. What a datagram says is read by
`notify_protocol`; what follows from it is the core's business. A message that does not count is
dropped, counted and logged now and then; it is never fatal.

All sockets share one nested epoll, which is a single reader of the loop: a worker that floods costs a
bounded number of datagrams per turn, and the kernel's own queue (net.unix.max_dgram_qlen, 10 unless
somebody raised it) makes it wait.

The hazard of a watchdog: a keep-alive may wait in the socket while its deadline passes. The loop
takes descriptors before timers, which covers what had arrived when the turn began; `poll` covers
the rest and is called right before a deadline is declared missed.
"""

import asyncio
import logging
import os
import select
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

from supervisor.core.effects import ReleaseBarrier
from supervisor.core.events import BarrierReached, Event, MainMoved, Told
from supervisor.core.identity import InstanceId
from supervisor.runtime.notify_protocol import Message, merged, parse
from supervisor.runtime.notify_socket import (
    Datagram,
    NotifySocketError,
    bind,
    prepare_directory,
    reason_of,
    receive,
    socket_path,
)

log = logging.getLogger(__name__)

__all__ = ["NotifySocketError", "NotifySockets"]

DATAGRAMS_PER_TURN = 16
SOCKETS_PER_TURN = 4
"""Together 64 datagrams, about a millisecond, before the loop looks at anything else."""

MAX_BARRIERS_HELD = 16
"""Barriers of one instance that wait at one time. Each holds a descriptor of the daemon."""

SECONDS_BETWEEN_COMPLAINTS = 60.0
"""One line per instance and minute about messages that were dropped."""


class _Listener:
    """The socket of one instance, and what is known about its use."""

    __slots__ = ("barriers", "drops", "instance", "path", "quiet_until", "socket", "uid")

    def __init__(self, instance: InstanceId, endpoint: socket.socket, path: str, uid: int) -> None:
        self.instance = instance
        self.socket = endpoint
        self.path = path
        self.uid = uid
        self.drops = 0
        self.quiet_until = 0.0
        self.barriers = 0


class NotifySockets:
    """The notify sockets of all instances.

    `generation_of` names the living generation of an instance, `owns` says whether a pid belongs to
    the tree of that generation, and `adopt_main` makes a verified pid its main process or says no.
    Raises `NotifySocketError` if the directory cannot be used.
    """

    def __init__(
        self,
        *,
        post: Callable[[Event], None],
        directory: Path,
        generation_of: Callable[[InstanceId], int | None],
        owns: Callable[[InstanceId, int, int], bool],
        adopt_main: Callable[[InstanceId, int, int], bool],
    ) -> None:
        self._post = post
        self._generation_of = generation_of
        self._owns = owns
        self._adopt_main = adopt_main
        self._directory = os.path.abspath(directory)
        prepare_directory(self._directory)
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[InstanceId, _Listener] = {}
        self._by_descriptor: dict[int, _Listener] = {}
        self._barriers: dict[int, tuple[int, _Listener]] = {}
        self._tokens = count(1)
        self._epoll = select.epoll()
        self._loop.add_reader(self._epoll.fileno(), self._turn)

    def path(self, instance: InstanceId, uid: int | None) -> str:
        """The socket on which a worker of this user speaks, for NOTIFY_SOCKET; it is made on first use.

        It is kept over the generations of the instance. None is the daemon's own user. Raises
        `NotifySocketError` if it cannot be made or cannot be given to the user.
        """
        owner = os.geteuid() if uid is None else uid
        listener = self._listeners.get(instance)
        if listener is not None and not os.path.lexists(listener.path):
            # Somebody tidied up; the bound socket can never be reached again.
            self.remove(instance)
            listener = None
        if listener is None:
            path = socket_path(self._directory, instance)
            listener = self._listen(_Listener(instance, self._bind(path), path, os.geteuid()))
        if owner != listener.uid:
            try:
                os.chown(listener.path, owner, -1, follow_symlinks=False)
            except OSError as error:
                raise NotifySocketError(
                    f"cannot give {listener.path} to user {owner}: {reason_of(error)}"
                ) from error
            listener.uid = owner
        return listener.path

    def adopt(self, instance: InstanceId, descriptor: int, uid: int | None) -> None:
        """Go on with a bound socket that another image of the daemon left open for us.

        Raises `NotifySocketError` if the descriptor is no such socket; it is then left as it is.
        """
        try:
            endpoint = socket.socket(fileno=descriptor)
        except OSError as error:
            raise NotifySocketError(f"cannot adopt descriptor {descriptor}: {reason_of(error)}") from error
        path = endpoint.getsockname() if endpoint.family is socket.AF_UNIX else None
        if endpoint.type is not socket.SOCK_DGRAM or not isinstance(path, str) or not path:
            endpoint.detach()
            raise NotifySocketError(f"cannot adopt descriptor {descriptor}: it is no notify socket")
        endpoint.setblocking(False)
        os.set_inheritable(descriptor, False)
        self.remove(instance, unlink=False)
        self._listen(_Listener(instance, endpoint, path, os.geteuid() if uid is None else uid))

    def descriptors(self) -> Mapping[InstanceId, int]:
        """The sockets by instance, to be handed to the next image of the daemon."""
        return {instance: listener.socket.fileno() for instance, listener in self._listeners.items()}

    def drops(self) -> Mapping[InstanceId, int]:
        """How many messages, or parts of one, were not taken, by instance. It only grows."""
        return {instance: listener.drops for instance, listener in self._listeners.items()}

    def release_barrier(self, act: ReleaseBarrier) -> None:
        """Let a worker go on that waits at its barrier: its end of a pipe is closed."""
        held = self._barriers.pop(act.token, None)
        if held is not None:
            descriptor, listener = held
            listener.barriers -= 1
            os.close(descriptor)

    def poll(self) -> None:
        """Take what is waiting right now: each socket once, at most `DATAGRAMS_PER_TURN` of it."""
        self._visit(max(1, len(self._listeners)))

    def remove(self, instance: InstanceId, *, unlink: bool = True) -> None:
        """Close the socket of an instance that is no longer part of the plan."""
        listener = self._listeners.pop(instance, None)
        if listener is None:
            return
        descriptor = listener.socket.fileno()
        self._epoll.unregister(descriptor)
        del self._by_descriptor[descriptor]
        listener.socket.close()
        if unlink:
            with suppress(OSError):
                os.unlink(listener.path)

    def close(self) -> None:
        """Close every socket, remove the paths, and let every waiting worker go on."""
        if self._epoll.closed:
            return
        for token in list(self._barriers):
            self.release_barrier(ReleaseBarrier(token))
        for instance in list(self._listeners):
            self.remove(instance)
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _bind(self, path: str) -> socket.socket:
        try:
            return bind(path)
        except NotifySocketError:
            # Whoever tidies up may have taken the directory too.
            prepare_directory(self._directory)
            return bind(path)

    def _listen(self, listener: _Listener) -> _Listener:
        descriptor = listener.socket.fileno()
        self._epoll.register(descriptor, select.EPOLLIN)
        self._listeners[listener.instance] = listener
        self._by_descriptor[descriptor] = listener
        return listener

    def _turn(self) -> None:
        # A level-triggered epoll moves what it returned to the end of its list: all get their turn.
        self._visit(SOCKETS_PER_TURN)

    def _visit(self, sockets: int) -> None:
        for descriptor, _ in self._epoll.poll(0, sockets):
            listener = self._by_descriptor.get(descriptor)
            if listener is not None:
                self._read(listener)

    def _read(self, listener: _Listener) -> None:
        pending: Told | None = None
        verdicts: dict[tuple[int, int], str] = {}
        for _ in range(DATAGRAMS_PER_TURN):
            datagram = receive(listener.socket)
            if datagram is None:
                break
            message = self._admit(listener, datagram, verdicts)
            if message.barrier or message.main_pid is not None:
                self._flush(pending)
                pending = None
            if message.barrier:
                self._hold(listener, datagram.descriptors[0])
                continue
            for descriptor in datagram.descriptors:
                os.close(descriptor)
            if message.main_pid is not None:
                self._move_main(listener, message.main_pid)
            if message.told is not None:
                both = None if pending is None else merged(pending, message.told)
                if both is None:
                    self._flush(pending)
                pending = both or message.told
        self._flush(pending)

    def _flush(self, told: Told | None) -> None:
        if told is not None:
            self._post(told)

    def _admit(
        self, listener: _Listener, datagram: Datagram, verdicts: dict[tuple[int, int], str]
    ) -> Message:
        """The message, or an empty one if it does not count."""
        generation = self._generation_of(listener.instance)
        refusal = "it is too long" if datagram.truncated else ""
        if not refusal and generation is None:
            refusal = "no process of it is alive"
        if refusal or generation is None:
            self._drop(listener, refusal)
            return Message()
        key = (generation, datagram.pid)
        if key not in verdicts:
            verdicts[key] = self._refusal(listener, generation, datagram)
        if verdicts[key]:
            self._drop(listener, verdicts[key])
            return Message()
        message = parse(datagram.payload, listener.instance, generation)
        problem = message.problem
        if message.barrier and len(datagram.descriptors) != 1:
            problem = f"BARRIER=1 comes with one descriptor, not {len(datagram.descriptors)}"
        elif message.barrier and listener.barriers >= MAX_BARRIERS_HELD:
            problem = f"{MAX_BARRIERS_HELD} barriers are waiting already"
        if problem:
            self._drop(listener, problem)
        return Message() if message.barrier and problem else message

    def _refusal(self, listener: _Listener, generation: int, datagram: Datagram) -> str:
        if datagram.pid <= 0:
            return "its sender cannot be seen from here"
        if datagram.uid not in (0, listener.uid):
            return f"it was sent by user {datagram.uid}"
        if not self._owns(listener.instance, generation, datagram.pid):
            return f"its sender, process {datagram.pid}, is no part of generation {generation}"
        return ""

    def _move_main(self, listener: _Listener, pid: int) -> None:
        instance = listener.instance
        generation = self._generation_of(instance)
        if generation is None:
            return
        if self._owns(instance, generation, pid) and self._adopt_main(instance, generation, pid):
            self._post(MainMoved(instance, generation, pid))
        else:
            self._drop(listener, f"MAINPID={pid} is no process that generation {generation} may name")

    def _hold(self, listener: _Listener, descriptor: int) -> None:
        token = next(self._tokens)
        listener.barriers += 1
        self._barriers[token] = (descriptor, listener)
        self._post(BarrierReached(token))

    def _drop(self, listener: _Listener, reason: str) -> None:
        listener.drops += 1
        now = self._loop.time()
        if now >= listener.quiet_until:
            listener.quiet_until = now + SECONDS_BETWEEN_COMPLAINTS
            log.warning(
                "cannot take a notify message of %s: %s; it is ignored (%d so far)",
                listener.instance,
                reason,
                listener.drops,
            )
