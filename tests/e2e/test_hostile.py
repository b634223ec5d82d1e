"""A hostile pool beside a good one: it hurts nobody else, and a stop leaves nothing of it."""

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.commands import pool, script
from tests.e2e.daemon import Daemon
from tests.e2e.disk import Disk
from tests.e2e.neighbours import assert_unharmed, kill_and_wait, memory_bytes, neighbours, victim
from tests.e2e.scrape import metric
from tests.proc import descriptor_count, is_alive
from tests.waiting import eventually

Make = Callable[..., Daemon]

IGNORES = (
    "import os, signal, socket, sys, threading\n"
    "for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:\n"
    "    signal.signal(number, signal.SIG_IGN)\n"
    "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
    "address = os.environ['NOTIFY_SOCKET']\n"
    "say = lambda text: s.sendto(text, address)\n"
    "out = lambda data: os.write(1, data)\n"
    "wait = threading.Event().wait\n"
)
"""It ignores whatever can be ignored, and has what the scripts below need."""

FLOODS_NOTIFY = IGNORES + (
    "n = 0\n"
    "while True:\n"
    "    n += 1\n"
    "    text = b'READY=1\\nSTATUS=%d\\nX_PITBOSS_INFLIGHT=%d\\nEXTEND_TIMEOUT_USEC=1' % (n, n)\n"
    "    say(os.urandom(200) if n % 7 == 0 else b'A=' + b'x' * 60000 if n % 7 == 1 else text)\n"
)

FLOODS_OUTPUT = IGNORES + "say(b'READY=1')\nwhile True: out(b'y\\n' * 16384)\n"

WRITES_BINARY = (
    IGNORES + "say(b'READY=1')\nwhile True: out(os.urandom(4096).replace(b'\\n', b'')); wait(0.002)\n"
)

FORKS = IGNORES + (
    "say(b'READY=1')\n"
    "for n in range(120):\n"
    "    if os.fork() == 0:\n"
    "        if n % 3 == 1: os.setpgid(0, 0)\n"
    "        if n % 3 == 2:\n"
    "            os.setsid()\n"
    "            if n % 2 and os.fork(): os._exit(0)\n"
    "        while True: wait(60)\n"
    "while True: wait(60)\n"
)

LIES_ABOUT_PID = IGNORES + (
    "say(b'READY=1')\n"
    "while True:\n"
    "    for pid in (b'1', b'0', b'-1', b'%d' % os.getppid(), b'99999999999', b'4194304', b'x', b''):\n"
    "        say(b'MAINPID=' + pid)\n"
    "    wait(0.01)\n"
)

CLOSES_PIPES = IGNORES + "say(b'READY=1')\nos.closerange(0, 3)\nwhile True: wait(60)\n"

ATTACKS_LOG = IGNORES + (
    "from contextlib import suppress\n"
    "say(b'READY=1')\n"
    "log = sys.argv[1]\n"
    "replace = lambda path: (os.unlink(path), os.mkdir(path))\n"
    "acts = [os.unlink, lambda path: os.chmod(path, 0), replace, os.rmdir]\n"
    "n = 0\n"
    "while True:\n"
    "    n += 1\n"
    "    out(b'line\\n')\n"
    "    with suppress(OSError): acts[n % 4](log)\n"
    "    wait(0.005)\n"
)

SPEAKS_TERMINAL = IGNORES + (
    "say(b'READY=1\\nSTATUS=\\x1b[2J\\x1b]0;owned\\x07\\x9b31m\\xc2\\x9b\\xe2\\x80\\xae\\r\\x08 evil')\n"
    "out(b'\\x1b[2J\\x1b]0;owned\\x07\\n')\n"
    "while True: wait(60)\n"
)

ENDLESS_LINE = IGNORES + "say(b'READY=1')\nwhile True: out(b'x' * 65536)\n"

HUGE_DATAGRAMS = IGNORES + (
    "s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)\n"
    "say(b'READY=1')\n"
    "n = 0\n"
    "while True:\n"
    "    n += 1\n"
    "    for size in (4097, 65536, 150000, 200000):\n"
    "        try: say(b'STATUS=' + b'x' * size)\n"
    "        except OSError: pass\n"
)

FILLS_DISK = IGNORES + "say(b'READY=1')\nwhile True: out(os.urandom(999).hex().encode() + b'\\n')\n"

SENDS_DESCRIPTORS = IGNORES + (
    "import array\n"
    "say(b'READY=1')\n"
    "held = array.array('i', [os.open('/dev/null', os.O_RDONLY)] * 250)\n"
    "while True:\n"
    "    for text in (b'BARRIER=1', b'FDSTORE=1', b'X=1'):\n"
    "        s.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, held)], 0, address)\n"
)

HOSTILE = {
    "writes-an-endless-line": ENDLESS_LINE,
    "sends-huge-datagrams": HUGE_DATAGRAMS,
    "sends-descriptors": SENDS_DESCRIPTORS,
    "fills-its-log-disk": FILLS_DISK,
    "floods-notify": FLOODS_NOTIFY,
    "floods-output": FLOODS_OUTPUT,
    "writes-binary-without-end": WRITES_BINARY,
    "forks-and-ignores": FORKS,
    "lies-about-its-pid": LIES_ABOUT_PID,
    "closes-its-pipes": CLOSES_PIPES,
    "attacks-its-log": ATTACKS_LOG,
    "speaks-to-the-terminal": SPEAKS_TERMINAL,
}


def marked(one: Daemon) -> list[int]:
    """The living processes that carry the mark of this daemon's hostile pool, wherever they hide."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"HOSTILE_OF={one.directory}".encode() in environment and is_alive(int(path.name)):
            found.append(int(path.name))
    return found


def has_begun(one: Daemon, kind: str) -> bool:
    """Whether the attack can be seen: a test of an attack that has not begun proves nothing."""
    shown = one.instance("hostile/0")
    written = metric(one, 'pitboss_log_bytes_total{pool="hostile"}')
    refused = metric(one, 'pitboss_notify_dropped_total{pool="hostile"}')
    match kind:
        case "floods-notify" | "lies-about-its-pid" | "sends-huge-datagrams" | "sends-descriptors":
            return refused > 50
        case "fills-its-log-disk":
            return metric(one, 'pitboss_log_dropped_total{pool="hostile"}') > 0
        case "floods-output" | "writes-binary-without-end" | "writes-an-endless-line":
            return written > 1_000_000
        case "forks-and-ignores":
            return len(marked(one)) > 120
        case "closes-its-pipes":
            return not Path(f"/proc/{shown['pid']}/fd/1").exists()
        case "attacks-its-log":
            return written > 200
        case _:
            return bool(shown["status_text"])


def plain(text: str) -> bool:
    """Whether a text can move no cursor and turn no line around."""
    return re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text) is None


MORE_MEMORY_BYTES = 24 * 1024 * 1024
"""By how much the daemon may grow under an attack: tails, caches, and what the allocator keeps."""


def assert_stays_itself(one: Daemon, main: int) -> None:
    """The attacker still runs, the operator sees it, and what is shown cannot harm a terminal."""
    for verb in (["status"], ["status", "--json"], ["explain", "hostile/0"]):
        done = one.ctl(*verb)
        assert done.returncode == 0, done.stderr
        assert plain(done.stdout), ascii(done.stdout)
    still = one.instance("hostile/0")
    assert (still["pid"], still["generation"]) == (main, 1)


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_a_hostile_pool_hurts_nobody_else(daemon: Make, disk: Disk, kind: str) -> None:
    """Its neighbours come back, answer and write; the daemon does not grow; a stop leaves nothing of it."""
    one = daemon({}, start=False)
    logs = disk.path if kind == "fills-its-log-disk" else one.directory / "state" / "logs"
    hostile = pool(
        [*script(HOSTILE[kind]), str(logs / "hostile-0.log")],
        readiness={"notify": True},
        environment={"HOSTILE_OF": str(one.directory)},
        logs={"max_bytes": "8MiB" if logs == disk.path else "1MiB", "keep": 1, "directory": str(logs)},
        stop={"stages": [{"signal": "SIGTERM", "target": "all", "grace": "300ms"}]},
    )
    one.write_manifest({"pools": {**neighbours(), "hostile": hostile}})
    one.start()
    one.wait_ready()
    held, memory = descriptor_count(one.pid), memory_bytes(one.pid)
    main = one.instance("hostile/0")["pid"]
    eventually(lambda: has_begun(one, kind), 60, f"{kind} has begun")
    assert_unharmed(one)
    assert_stays_itself(one, main)
    grown = memory_bytes(one.pid) - memory
    assert grown < MORE_MEMORY_BYTES, f"{grown} bytes"
    done = one.ctl("stop", "hostile", "--timeout", "90s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert marked(one) == []
    assert one.instance("hostile/0")["phase"] == "stopped"
    # A log file and a spare may be open now that were not before.
    eventually(lambda: descriptor_count(one.pid) <= held + 2, 60, "its descriptors are given back")
    kill_and_wait(one)


def test_nobody_speaks_for_an_instance_of_another_pool(daemon: Make) -> None:
    """READY=1 from outside the tree does not count, be the sender a worker of another pool or root."""
    one = daemon({}, start=False)
    notes = one.directory / "address"
    quiet = pool(
        script(
            f"import os, signal\nopen({str(notes)!r}, 'w').write(os.environ['NOTIFY_SOCKET'])\nsignal.pause()"
        ),
        readiness={"notify": True},
        startup={"timeout": "10m"},
    )
    liar = IGNORES + (
        f"while not os.path.exists({str(notes)!r}) or not open({str(notes)!r}).read(): wait(0.01)\n"
        f"address = open({str(notes)!r}).read()\n"
        "while True:\n"
        "    say(b'READY=1')\n"
        "    say(b'MAINPID=%d' % os.getpid())\n"
        "    say(b'X_PITBOSS_DRAINED=1\\nSTATUS=lie')\n"
        "    wait(0.01)\n"
    )
    one.write_manifest({"pools": {"quiet": quiet, "hostile": pool(script(liar))}})
    one.start()
    address = eventually(lambda: notes.read_text() if notes.exists() else "")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outside:
        outside.sendto(b"READY=1", address)
    pid = one.instance("quiet/0")["pid"]
    eventually(lambda: metric(one, 'pitboss_notify_dropped_total{pool="quiet"}') > 30)
    shown = one.instance("quiet/0")
    assert (shown["phase"], shown["ready"], shown["pid"], shown["status_text"]) == (
        "starting",
        False,
        pid,
        None,
    )
    assert one.ctl("stop", "hostile").returncode == 0
    assert metric(one, "pitboss_core_faults_total") == 0


def test_a_ten_minute_drain_delays_nobody(daemon: Make, tmp_path: Path) -> None:
    """Meanwhile other pools come back, restart, stop, start and take signals, and a scrape is answered."""
    touched = tmp_path / "touched"
    hears = (
        "import pathlib, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        f"signal.signal(signal.SIGUSR1, lambda *_: pathlib.Path({str(touched)!r}).touch())\n"
        "while True: signal.pause()\n"
    )
    slow = pool(
        script(IGNORES + "say(b'READY=1\\nX_PITBOSS_INFLIGHT=1')\nwhile True: wait(60)"),
        readiness={"notify": True},
        drain={"notify": True, "window": "10m"},
    )
    other = pool(script(hears), rollout={"min_ready": "0s"})
    one = daemon({"pools": {"slow": slow, "victim": victim(), "other": other}})
    one.wait_ready()
    operation = one.post("/v1/pools/slow/drain").json()["id"]
    eventually(lambda: one.instance("slow/0")["stage"] == "drain")
    kill_and_wait(one)
    for verb in (["signal", "SIGUSR1", "other"], ["restart", "other"], ["stop", "other"], ["start", "other"]):
        done = one.ctl(*verb)
        assert done.returncode == 0, (verb, done.stdout, done.stderr)
        if verb[0] == "signal":
            eventually(touched.exists)
    assert one.instance("other/0")["ready"]
    assert 'pitboss_drain_inflight{pool="slow"} 1' in one.get("/metrics").text
    shown = one.instance("slow/0")
    assert (shown["stage"], shown["generation"], shown["in_flight"]) == ("drain", 1, 1)
    assert shown["deadline_seconds"] > 60
    assert one.get(f"/v1/operations/{operation}").json()["state"] == "running"
    assert one.ctl("stop", "slow", "--kill").returncode == 0
    assert metric(one, "pitboss_core_faults_total") == 0
