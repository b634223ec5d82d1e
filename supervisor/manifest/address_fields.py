"""The kinds of values that name an address: how each is checked, and how a schema says it.

Decides which key takes which form of address; the forms themselves are in `addresses`.
"""

import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from supervisor.manifest.addresses import LONGEST_ADDRESS, host_port, http_url, listen_address
from supervisor.manifest.fields import Called, checked, expected, templated


def _tcp(value: object) -> str:
    written = templated(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)
    if len(written) > LONGEST_ADDRESS:
        raise ValueError('expected "host:port" such as "127.0.0.1:8000"')
    if "{{" not in written:
        host_port(written)
    return written


def _url(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError('expected a URL such as "http://127.0.0.1:8000/healthz"')  # noqa: TRY004 - one complaint for any wrong value
    written = templated(value)
    if "{{" not in written or len(written) > LONGEST_ADDRESS:
        http_url(written)
    return written


def _listen(value: object) -> tuple[str, int]:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError('expected "host:port" such as "127.0.0.1:9911"')  # noqa: TRY004 - one complaint for any wrong value
    return host_port(str(value), lowest=0)


def _socket_listen(value: object) -> str:
    written = templated(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)
    if "{{" not in written:
        listen_address(written)
    return written


def _socket_name(value: object) -> str:
    # What sd_listen_fds_with_names(3) takes for a name: fdname_is_valid() of systemd.
    if not isinstance(value, str) or not re.fullmatch("[ -9;-~]{1,255}", value):
        raise expected('expected a name of at most 255 printable ASCII characters without ":"')
    return value


TcpAddress = Annotated[
    str, checked(_tcp), WithJsonSchema({"type": ["string", "integer"]}), Called("host:port or port")
]
Url = Annotated[str, checked(_url), WithJsonSchema({"type": "string", "pattern": "^http://"}), Called("URL")]
Listen = Annotated[
    tuple[str, int],
    checked(_listen),
    WithJsonSchema({"type": ["string", "integer"]}),
    Called("host:port or port"),
]
SocketListen = Annotated[
    str,
    checked(_socket_listen),
    WithJsonSchema({"type": ["string", "integer"]}),
    Called("address:port, port or unix:path"),
]
SocketName = Annotated[
    str,
    BeforeValidator(_socket_name),
    WithJsonSchema({"type": "string", "pattern": "^[ -9;-~]{1,255}$"}),
    Called("text"),
]
