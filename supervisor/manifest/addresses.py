"""Hosts, ports and URLs as an operator writes them.

Decides what is a well-formed address; raises `ValueError` with what was expected and found. It never
resolves a name.
"""

import ipaddress
import os
import re
from urllib.parse import urlsplit

LONGEST_ADDRESS = 2048
SOCKET_PATH_BYTES = 107
"""`sun_path` of unix(7) holds 108 bytes with the closing NUL."""

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")
_URL = re.compile(r"[!-~]+\Z")


def host_port(text: str, lowest: int = 1) -> tuple[str, int]:
    """`host:port`, `[::1]:port`, or a port alone on 127.0.0.1.

    Raises:
        ValueError: It is neither, or the port is not between `lowest` and 65535.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        host = "127.0.0.1"
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        good = _is_ip(host, 6)
    else:
        good = bool(_HOST.match(host))
    if not good or not _PORT.match(port):
        raise ValueError('expected "host:port" such as "127.0.0.1:8000"')
    if not lowest <= int(port) <= 65535:
        raise ValueError(f"expected a port between {lowest} and 65535")
    return host, int(port)


def listen_address(text: str) -> tuple[str, int] | str:
    """What a socket listens on: a numeric host and a port, or the path after `unix:`, as it is written.

    A name is refused: it may mean several addresses, and other ones tomorrow.

    Raises:
        ValueError: It is neither, the path is longer than a socket's may be, or the port is not between
            1 and 65535.
    """
    if text.startswith("unix:"):
        return _socket_path(text.removeprefix("unix:"))
    expected = 'expected an address such as "127.0.0.1:8000", "[::1]:8000" or "unix:/run/app.sock"'
    if len(text) > LONGEST_ADDRESS:
        raise ValueError(expected)
    try:
        host, port = host_port(text)
    except ValueError as error:
        if str(error).startswith("expected a port"):
            raise
        raise ValueError(expected) from error
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise ValueError(f"{expected} (names are not looked up)") from error
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError(f"expected the IPv4 address {address.ipv4_mapped} itself")
    return str(address), port


def _socket_path(path: str) -> str:
    if path.startswith("@"):
        raise ValueError("expected a path (an abstract socket has neither owner nor mode)")
    if not path or path.endswith("/") or "\0" in path:
        raise ValueError('expected a path after "unix:" such as "unix:/run/app.sock"')
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise ValueError(f"expected a path of at most {SOCKET_PATH_BYTES} bytes")
    return path


def http_url(text: str) -> None:
    """Check a URL that a probe may ask for.

    Raises:
        ValueError: It is not an `http://` URL with a host and a good port.
    """
    expected = 'expected a URL such as "http://127.0.0.1:8000/healthz"'
    if len(text) > LONGEST_ADDRESS or not _URL.match(text):
        raise ValueError(expected)
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname
    except ValueError as error:
        raise ValueError(expected) from error
    if parts.scheme == "https":
        raise ValueError("expected an http:// URL (TLS is left to an exec probe)")
    if parts.scheme != "http" or not host or port == 0:
        raise ValueError(expected)
    if not (_HOST.match(host) or _is_ip(host, 6)):
        raise ValueError(expected)
    if parts.username is not None:
        raise ValueError("expected a URL without user and password (send an Authorization header)")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_ip(host: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(host).version == version
    except ValueError:
        return False
