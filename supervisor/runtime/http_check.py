"""Ask one question of a listener: whether this HTTP request, or this TCP connection, succeeds.

Decides what counts as an answer. How long to wait, and what an answer means, is known elsewhere: the
caller sets the deadline and cancels. What the other side sends is not trusted: at most
`MAX_RESPONSE_BYTES` of it are read, only the status is looked at, and no redirect is followed.
"""

import asyncio
import errno
import os
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import httptools

from supervisor.core.launch import HttpCheck, TcpCheck

MAX_RESPONSE_BYTES = 64 * 1024
BODY_SECONDS = 0.25
"""How long the rest of an answer is awaited once its status is known. It changes no verdict: it keeps
workers that write head and body apart from logging a broken pipe for each probe."""

_READ_BYTES = 16 * 1024
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A method or the name of a header (RFC 9110, section 5.6.2)."""

_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_VISIBLE = re.compile(r"[\x21-\x7e]+")


class CheckError(Exception):
    """The answer is no; the message is the reason, one line."""


class CannotAskError(CheckError):
    """The question could not be put: the daemon or the machine lacks what that takes.

    It says nothing about who would have answered.
    """


LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""What the kernel says to whoever asks when descriptors or memory have run out."""


class _Request(NamedTuple):
    shown: str
    host: str
    port: int
    tls: bool
    data: bytes


async def ask_http(target: HttpCheck, deadline: float) -> None:
    """Return if the answer's status is 200 to 399.

    `deadline` is the loop's time at which the caller gives up; it bounds only the courtesy of reading
    the body. Raises CheckError otherwise.
    """
    request = _render(target)
    context = await _tls_context() if request.tls else None
    reader, writer = await _open(request.host, request.port, context, target.unix_socket)
    try:
        writer.write(request.data)
        status = await _status(reader, request.shown)
        loop = asyncio.get_running_loop()
        patience = min(BODY_SECONDS, max(0.0, (deadline - loop.time()) / 2))
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(patience):
                await status.finish(reader)
    finally:
        writer.transport.abort()
    if not 200 <= status.code <= 399:
        raise CheckError(f"{request.shown} answered {status.code}")


async def ask_tcp(target: TcpCheck) -> None:
    """Return if a connection is accepted; raises CheckError otherwise."""
    _, writer = await _open(target.host, target.port, None, None)
    writer.transport.abort()


def shown_url(url: str) -> str:
    """The URL as it may stand in a log: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        netloc = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "the URL"
    return SplitResult(parts.scheme, netloc, parts.path, "", "").geturl()


class _Answer:
    """What a response parser reports; the methods are called by httptools."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.code = 0
        self.complete = False
        self.received = 0

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        # 100 to 199 announce the answer, except 101, which is one (RFC 9110, section 15.2).
        if not self.code and (status >= 200 or status == 101):
            self.code = status

    def on_message_complete(self) -> None:
        self.complete = bool(self.code)

    def feed(self, data: bytes) -> None:
        self.received += len(data)
        with suppress(httptools.HttpParserUpgrade):
            self.parser.feed_data(data)

    async def finish(self, reader: asyncio.StreamReader) -> None:
        """Read on until the message ends, the stream ends or enough was read."""
        while not self.complete and self.received < MAX_RESPONSE_BYTES:
            data = await reader.read(min(_READ_BYTES, MAX_RESPONSE_BYTES - self.received))
            if not data:
                return
            try:
                self.feed(data)
            except httptools.HttpParserError:
                return


async def _status(reader: asyncio.StreamReader, shown: str) -> _Answer:
    """Read until the status is known."""
    answer = _Answer()
    while not answer.code:
        if answer.received >= MAX_RESPONSE_BYTES:
            raise CheckError(f"{shown} answered with more than {MAX_RESPONSE_BYTES} bytes of headers")
        try:
            data = await reader.read(min(_READ_BYTES, MAX_RESPONSE_BYTES - answer.received))
        except OSError as error:
            raise CheckError(f"{shown} closed the connection: {_reason(error)}") from error
        if not data:
            raise CheckError(f"{shown} closed the connection before it answered")
        try:
            answer.feed(data)
        except httptools.HttpParserError as error:
            # Garbage behind a good head is still an answer.
            if not answer.code:
                raise CheckError(f"{shown} does not speak HTTP") from error
    return answer


def _render(target: HttpCheck) -> _Request:
    shown = shown_url(target.url)
    try:
        parts = urlsplit(target.url)
        port = parts.port
    except ValueError as error:
        raise CheckError(f"cannot ask {shown}: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise CheckError(f"cannot ask {shown}: expected http://HOST/… or https://HOST/…")
    if "@" in parts.netloc:
        raise CheckError(f"cannot ask {shown}: put the credentials into a header")
    if not _TOKEN.fullmatch(target.method):
        raise CheckError(f"cannot ask {shown}: the method is not a word")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not _VISIBLE.fullmatch(path) or not _VISIBLE.fullmatch(parts.netloc):
        raise CheckError(f"cannot ask {shown}: percent-encode blanks and other than ASCII characters")
    tls = parts.scheme == "https"
    head = [f"{target.method} {path} HTTP/1.1", *_headers(target, parts.netloc, shown), "", ""]
    data = "\r\n".join(head).encode("latin-1")
    return _Request(shown, parts.hostname, port or (443 if tls else 80), tls, data)


def _headers(target: HttpCheck, host: str, shown: str) -> list[str]:
    """The header lines; those of the target replace ours."""
    headers: dict[str, tuple[str, str]] = {}
    ours: Mapping[str, str] = {"Host": host, "User-Agent": "pitboss", "Accept": "*/*"}
    for name, value in (*ours.items(), *target.headers.items()):
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            # The value may be a secret, the name is not.
            raise CheckError(f"cannot ask {shown}: header {name[:40]!r} cannot be sent as it is")
        headers[name.lower()] = (name, value)
    headers["connection"] = ("Connection", "close")
    headers["content-length"] = ("Content-Length", "0")
    headers.pop("transfer-encoding", None)
    if target.method in {"GET", "HEAD"}:
        del headers["content-length"]
    return [f"{name}: {value}" for name, value in headers.values()]


async def _open(
    host: str, port: int, context: "ssl.SSLContext | None", unix_socket: str | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    name = host if context is not None else None
    if unix_socket is not None:
        try:
            return await asyncio.open_unix_connection(
                unix_socket, ssl=context, server_hostname=name, limit=MAX_RESPONSE_BYTES
            )
        except (OSError, ValueError) as error:
            raise _refusal(error)(f"cannot connect to {unix_socket}: {_reason(error)}") from error
    failure: Exception | None = None
    for address in _addresses(host):
        try:
            reader, writer = await asyncio.open_connection(
                address, port, ssl=context, server_hostname=name, limit=MAX_RESPONSE_BYTES
            )
        except (OSError, ValueError, OverflowError) as error:
            failure = failure or error
            continue
        except RuntimeError as error:
            # Names are looked up in a thread, which could not be started.
            raise CannotAskError(f"cannot look up {host}: {error}") from error
        # A connection to a free port of the ephemeral range can be its own peer (RFC 9293, section 3.5).
        if writer.get_extra_info("sockname") != writer.get_extra_info("peername"):
            return reader, writer
        writer.transport.abort()
        failure = failure or ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    raise _refusal(failure)(f"cannot connect to {shown}: {_reason(failure)}") from failure


def _refusal(error: Exception | None) -> type[CheckError]:
    return CannotAskError if isinstance(error, OSError) and error.errno in LACKING else CheckError


def _addresses(host: str) -> tuple[str, ...]:
    # asyncio asks for a name in a thread. The one name that most probes use needs no asking.
    return ("127.0.0.1", "::1") if host == "localhost" else (host,)


# A running daemon loads `ssl` when somebody looks into it, so annotations with it are not evaluated.
_trusted: "list[ssl.SSLContext]" = []


async def _tls_context() -> "ssl.SSLContext":
    """The default context, made once.

    Making it parses every trusted certificate of the machine, 50 ms that would hold the loop: the
    thread in which asyncio resolves names does it, and is not needed for it again.
    """
    if not _trusted:
        try:
            # In the thread too: a running daemon loads `ssl` at the first look into it, which takes as long.
            context = await asyncio.to_thread(lambda: ssl.create_default_context())  # noqa: PLW0108
        except RuntimeError as error:
            raise CannotAskError(f"cannot load what is trusted: {error}") from error
        _trusted.append(context)
    return _trusted[0]


def _reason(error: Exception | None) -> str:
    # Nothing was encrypted before a context was made.
    if _trusted and isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if _trusted and isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        # asyncio replaces the kernel's text by the address, which the reader has seen already.
        return os.strerror(error.errno).lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
