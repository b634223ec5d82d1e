"""Hosts, ports and URLs as an operator writes them.

Decides what is a well-formed address; raises `ValueError` with what was expected and found. It never
resolves a name.
"""

import ipaddress
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
