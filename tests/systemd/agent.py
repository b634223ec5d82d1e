"""Runs inside a guest: takes commands, one JSON object a line, runs them, answers with one line each.

Argument: a terminal (of a virtual machine) to talk over, or the path of a unix socket to listen on.
"""

import json
import os
import socket
import stat
import subprocess
import sys
import termios
import tty
from typing import IO, Any


def perform(request: dict[str, Any]) -> dict[str, Any]:
    """Run one command to its end."""
    try:
        done = subprocess.run(
            request["argv"],
            input=request["input"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=request["seconds"],
            env={**os.environ, **request["environment"]},
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return {"code": None, "out": str(error.stdout), "err": f"{error}: {error.stderr!r}"}
    except OSError as error:
        return {"code": 127, "out": "", "err": str(error)}
    return {"code": done.returncode, "out": done.stdout, "err": done.stderr}


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Say hello, then answer until nobody asks any more."""
    print(json.dumps({"hello": 1}), file=answers, flush=True)
    for line in requests:
        print(json.dumps(perform(json.loads(line))), file=answers, flush=True)


def main() -> None:
    """Serve on what the argument names."""
    place = sys.argv[1]
    if os.path.exists(place) and stat.S_ISCHR(os.stat(place).st_mode):
        descriptor = os.open(place, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(descriptor, termios.TCSANOW)
        with open(descriptor, encoding="utf-8") as requests, open(place, "w", encoding="utf-8") as answers:
            serve(requests, answers)
        return
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rw", encoding="utf-8") as stream:
                serve(stream, stream)


if __name__ == "__main__":
    main()
