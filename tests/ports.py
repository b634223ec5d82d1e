"""Ports of the loopback that nobody listens on; who starts a server there must be ready to lose a race."""

import random
import socket
from contextlib import ExitStack


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
        port: int = one.getsockname()[1]
        return port


def free_ports_in_a_row(count: int) -> int:
    """The first of so many ports that follow each other, below those that the kernel gives to clients."""
    while True:
        first = random.randrange(20000, 30000)
        try:
            with ExitStack() as stack:
                for port in range(first, first + count):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        return first
