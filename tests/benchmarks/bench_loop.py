"""A real daemon with 200 workers: kill to replacement, idle and beside a client that saturates the API.

Kill to replacement is from before the SIGKILL until the replacement's first instruction has written
its own clock, both CLOCK_MONOTONIC. Prints medians and 99th percentiles, and the descriptors, memory
and idle CPU of the daemon. Numbers depend on the machine: compare them only within one run.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tests.e2e.daemon import Daemon
from tests.proc import descriptor_count, stat_fields
from tests.waiting import eventually

INSTANCES = 200
KILLS = 100
IDLE_SECONDS = 10.0
TICKS = os.sysconf("SC_CLK_TCK")

WORKER = """
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    char line[64];
    int length = snprintf(line, sizeof line, "%d %ld.%09ld\\n", getpid(), (long)now.tv_sec, now.tv_nsec);
    int file = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0644);
    if (write(file, line, length) < 0) return 1;
    close(file);
    for (;;) pause();
}
"""


def build(directory: Path) -> Path:
    """The worker: a small C program that writes when it began, so that no interpreter is measured."""
    source, program = directory / "worker.c", directory / "worker"
    source.write_text(WORKER)
    subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
    return program


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def seen(daemon: Daemon, victim: int) -> dict[str, Any]:
    """One instance as the daemon describes it; a refusal is said as it is."""
    document = daemon.instance(f"pool/{victim}")
    assert "ready" in document, document
    return document


def replacement_ms(daemon: Daemon, begins: Path, victim: int) -> float:
    """Kill one instance's process; milliseconds until its replacement runs."""
    pid = seen(daemon, victim)["pid"]
    size = begins.stat().st_size
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: begins.stat().st_size > size)
    began = float(begins.read_text().splitlines()[-1].split()[1])
    eventually(lambda: seen(daemon, victim)["ready"])
    return (began - killed) * 1000


def measure(daemon: Daemon, begins: Path, name: str) -> None:
    """One row of the table."""
    samples = [replacement_ms(daemon, begins, index * 7 % INSTANCES) for index in range(KILLS)]
    p99 = quantiles(samples, n=100)[98]
    print(f"kill to replacement, {name:<22} p50 {median(samples):6.2f} ms   p99 {p99:6.2f} ms")


def saturate(daemon: Daemon, until: threading.Event, counted: list[int]) -> None:
    """Ask for the status without a pause."""
    with daemon.client() as client:
        while not until.is_set():
            client.get("/v1/status")
            counted.append(1)


def main() -> int:
    """Measure and print; always 0: what is fast enough is judged beside other supervisors."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        begins = directory / "begins"
        pool = {
            "command": [str(build(directory)), str(begins)],
            "instances": INSTANCES,
            "startup": {"min_uptime": 0},
            "restart": {"backoff": {"initial": "0s", "max": "1s"}},
        }
        daemon = Daemon({"pools": {"pool": pool}}).start()
        try:
            daemon.wait_ready()
            before = cpu_seconds(daemon.pid)
            threading.Event().wait(IDLE_SECONDS)
            used = (cpu_seconds(daemon.pid) - before) / IDLE_SECONDS * 60
            print(f"idle CPU with {INSTANCES} workers: {used:.3f} s a minute")
            descriptors = descriptor_count(daemon.pid)
            print(f"descriptors: {descriptors} ({(descriptors - 20) / INSTANCES:.2f} an instance)")
            measure(daemon, begins, "idle")
            until = threading.Event()
            counted: list[int] = []
            clients = [threading.Thread(target=saturate, args=(daemon, until, counted)) for _ in range(4)]
            for client in clients:
                client.start()
            began = time.monotonic()
            measure(daemon, begins, "4 clients on status")
            seconds = time.monotonic() - began
            until.set()
            for client in clients:
                client.join()
            print(f"status of {INSTANCES} answered {len(counted) / seconds:.0f} times a second meanwhile")
        finally:
            daemon.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
