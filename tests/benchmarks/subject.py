"""What a comparison needs to know about a supervisor: how it is configured, started, stopped.

A subject decides nothing about measuring; it only speaks its supervisor's language. All of them keep N
copies of one program, restart without a delay, and give a worker the same grace window.
"""

import os
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Rotation:
    """Where the output of every instance goes, and when a file is changed for another."""

    directory: Path
    max_bytes: int
    keep: int


@dataclass(frozen=True)
class Job:
    """What is asked of every subject alike.

    `command` is the worker with its arguments. `directory` is the subject's own, empty at first and in
    memory, and output goes there by default; `lasting` is one on a disk, for what is to survive a crash of
    the machine and is synced.
    """

    directory: Path
    lasting: Path
    command: tuple[str, ...]
    instances: int
    grace_seconds: int = 10
    logs: Rotation | None = None
    """None: the output goes where it goes by default."""
    nofile: int = 0
    """The limit of descriptors that a worker gets; 0: its supervisor's."""
    user: str = ""
    """Whose process a worker is; empty: its supervisor's user."""
    listens: Path | None = None
    """The unix socket that the supervisor is to open and all workers to share; None: there is none."""


@dataclass(frozen=True)
class Endpoint:
    """A unix socket, and the whole requests that clients send to it.

    "status" asks for the state of all instances, "small" for as little as there is.
    """

    path: Path
    questions: dict[str, str]
    client: tuple[str, ...] = ()
    """What asks; empty: the client for HTTP."""


class Subject(ABC):
    """A supervisor; each kind says what differs."""

    name = ""
    most = 1000
    """With more instances it is not measured; a smaller number has its reason in the class."""
    least = 0
    """With fewer it does not stay."""
    pause_seconds = 0.02
    """How long after a replacement the next worker is killed."""
    rotates = True
    """Whether it, or what belongs to it, captures output into files that it rotates."""
    limits = True
    """Whether it can give a worker a limit of descriptors; each can give it a user."""
    shares = ""
    """The descriptor at which its workers find a socket that they share; empty: it has none for them."""
    asked = False
    """Whether its control plane can be asked by clients: it has an endpoint."""
    remark = ""

    def takes(self, instances: int) -> bool:
        """Whether it is measured with so many."""
        return self.least <= instances <= self.most

    @abstractmethod
    def missing(self) -> str | None:
        """Why it cannot be measured here; None if it can."""

    @abstractmethod
    def version(self) -> str:
        """As it says itself."""

    @abstractmethod
    def configure(self, job: Job) -> list[str]:
        """Write the configuration; the command that runs the supervisor in the foreground."""

    def environment(self) -> dict[str, str]:
        """What its environment has more than that of the others."""
        return {}

    def endpoint(self, job: Job) -> Endpoint | None:
        """Where clients ask it; None if it has no such place."""
        return None

    def start(self, job: Job, command: list[str]) -> subprocess.Popen[bytes]:
        """Run what `configure` returned."""
        with (job.directory / "output").open("wb") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=job.directory,
                env={"PATH": os.defpath, "HOME": str(job.directory), **self.environment()},
                start_new_session=True,
            )

    def stop(self, process: subprocess.Popen[bytes], job: Job) -> None:
        """Ask it to stop everything, and return at once."""
        process.send_signal(signal.SIGTERM)

    def roll(self, process: subprocess.Popen[bytes], job: Job) -> None:
        """Ask it to replace all workers without a gap; it may return before they are."""
        process.send_signal(signal.SIGHUP)


def told(path: Path, head: str, body: str = "") -> bytes:
    """What is answered to one request on a unix socket. Raises OSError if that is not of status 2xx."""
    request = (
        f"{head} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    if not answer.startswith(b"HTTP/1.1 2"):
        raise OSError(f"{head}: {answer[:200]!r}")
    return answer


def said(*command: str, env: dict[str, str] | None = None) -> str:
    """The last line of what a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return (done.stdout or done.stderr).strip().splitlines()[-1]
