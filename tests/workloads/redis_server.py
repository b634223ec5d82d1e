"""A real redis-server in a directory of its own, on a free port of the loopback."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.ports import free_port
from tests.waiting import eventually


class RedisServer:
    """One server, empty at the start and without a file at the end; end it with `close`."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            message = "redis-server is not installed (Debian: apt install redis-server)"
            if os.environ.get("CI"):
                raise AssertionError(message)
            pytest.skip(message)
        self.directory = Path(tempfile.mkdtemp(prefix="redis-", dir="/tmp"))
        self._log = (self.directory / "log").open("ab")
        for _ in range(10):
            self.port = free_port()
            self.process = self._start(program)
            # The port may have been taken between the two; then the server says so and ends.
            if eventually(lambda: self._answers() or self.process.poll() is not None) and self._answers():
                return
        raise AssertionError((self.directory / "log").read_text())

    def _start(self, program: str) -> "subprocess.Popen[bytes]":
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        return subprocess.Popen(
            [program, *options],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def _answers(self) -> bool:
        with socket.socket() as probe:
            if self.process.poll() is not None or probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
            probe.settimeout(30)
            probe.sendall(b"PING\r\n")
            return probe.recv(16).startswith(b"+PONG")

    @property
    def url(self) -> str:
        """The address as its clients want it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self, *words: str) -> Any:
        """Ask the server something."""
        with redis.Redis(port=self.port, decode_responses=True) as client:
            return client.execute_command(*words)

    def close(self) -> None:
        """End it and remove its directory."""
        self.process.kill()
        self.process.wait(30)
        self._log.close()
        shutil.rmtree(self.directory, ignore_errors=True)
