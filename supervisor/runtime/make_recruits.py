"""Make recruits: copies of this small process, each of which becomes one worker of the daemon.

Runs as a script, `python -I -S make_recruits.py CONTROL CLONE`: for each byte on the socket CONTROL it copies
itself by the system call CLONE, and answers with the pid of the copy and one end of a socket to it. The copy
is a child of the daemon (CLONE_PARENT, clone(2)); it reads its plan from that socket and carries it out, or
ends when the other end is closed. Decides nothing; what a plan says is the business of `become_worker`.

This process never sees a plan, so that nothing of one worker is in the memory of another, and holds no
descriptor of anybody. It has one thread: what the C library and the interpreter do at a fork beyond the
system call concerns other threads. It ends with the daemon, which is the end of CONTROL.
"""

import _signal  # type: ignore[import-not-found]  # it has no stub
import _socket
import ctypes
import gc
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    # See `become_worker`.
    from collections.abc import Callable

CLONE_PARENT = 0x8000
"""From linux/sched.h. The copy's end is told like that of this process: by SIGCHLD to the daemon."""

PLAN_BYTES = 1 << 17
INT_BYTES = 4

HANDED_BYTES = _socket.CMSG_SPACE(253 * INT_BYTES)
"""Room for as many descriptors as one message can carry: SCM_MAX_FD of unix(7)."""


def main() -> None:
    """Serve until the daemon is gone."""
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from supervisor.runtime.become_worker import carry_out, reset_signals  # noqa: PLC0415 - found only now

    number = int(sys.argv[1])
    control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, number)
    os.set_inheritable(number, False)
    # close_range(2): whatever came along would be held as long as the daemon lives, and get to workers.
    os.closerange(3, number)
    os.closerange(number + 1, 1 << 30)
    system_call = ctypes.PyDLL(None, use_errno=True).syscall
    reset_signals()
    # What is sent to everybody of the daemon's group is not for this process. And blocked, unlike ignored,
    # a signal for a worker that comes while it still is a copy waits, and is not lost.
    _signal.pthread_sigmask(_signal.SIG_SETMASK, _signal.valid_signals())
    with open("/proc/self/comm", "w") as file:
        file.write("pitboss-starter")
    gc.disable()
    gc.freeze()
    try:
        control.send(b"ready")
        while control.recv(1):
            serve(control, int(sys.argv[2]), system_call, carry_out)
    except (BrokenPipeError, ConnectionResetError):
        return


def serve(
    control: _socket.socket, clone: int, system_call: "Callable[..., int]", carry_out: "Callable[..., None]"
) -> None:
    """Make one recruit and tell the daemon of it, or why there is none: an errno with a minus."""
    try:
        near, far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    except OSError as error:
        control.send(b"-%d" % (error.errno or 0))
        return
    pid = system_call(clone, CLONE_PARENT | _signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        try:
            control.close()
            far.close()
            follow(near, carry_out)
        except BaseException:  # noqa: BLE001 - nothing may return into the loop of the original
            sys.excepthook(*sys.exc_info())
        os._exit(1)
    # Before the daemon hears of it: what it sends to one that has ended must fail, and not wait here.
    near.close()
    if pid < 0:
        control.send(b"-%d" % ctypes.get_errno())
    else:
        handed = far.fileno().to_bytes(INT_BYTES, sys.byteorder)
        control.sendmsg([b"%d" % pid], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, handed)])
    far.close()


def follow(channel: _socket.socket, carry_out: "Callable[..., None]") -> None:
    """Wait for the plan and carry it out; return if there is none."""
    text, ancillary, _, _ = channel.recvmsg(PLAN_BYTES, HANDED_BYTES, _socket.MSG_CMSG_CLOEXEC)
    if not text:
        # Out of the daemon's group, in which it leaves everybody alone, so that it buries this one.
        os.setpgid(0, 0)
        return
    received = list(memoryview(ancillary[0][2]).cast("i")) if ancillary else []
    plan = marshal.loads(text)  # noqa: S302 - the daemon wrote it
    output = received.pop(0) if plan["has_output"] else 0
    os.dup2(output, 1)
    os.dup2(output, 2)
    plan["sockets"] = received
    if output:
        os.close(output)
    carry_out(plan, channel.fileno())


if __name__ == "__main__":
    main()
