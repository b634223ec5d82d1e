"""What a daemon leaves out of its memory is there when it is wanted: an https probe works as before."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ASKS = """
import sys
from supervisor.cli.pitbossd_imports import keep_small
keep_small()
import asyncio
from supervisor.control import server
from supervisor.core.launch import HttpCheck
from supervisor.runtime.http_check import CheckError, ask_http
certificate, key = sys.argv[1:]

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    writer.close()

async def ask(scheme, **tls):
    server = await asyncio.start_server(answer, "127.0.0.1", 0, **tls)
    port = server.sockets[0].getsockname()[1]
    try:
        deadline = asyncio.get_running_loop().time() + 30
        await ask_http(HttpCheck(f"{scheme}://localhost:{port}/"), deadline)
        return "yes"
    except CheckError as error:
        return str(error)
    finally:
        server.close()

print(asyncio.run(ask("http")))
print("_ssl" in sys.modules, "_hashlib" in sys.modules and sys.modules["_hashlib"])
import ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
print(asyncio.run(ask("https", ssl=context)))
import ssl as again
print(sys.modules["ssl"].SSLSocket is asyncio.base_events.ssl.SSLSocket, again.__file__ is not None)
"""


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_tls_comes_when_it_is_wanted(tmp_path: Path) -> None:
    """Nothing of TLS is loaded for plain HTTP; the first https probe loads it and verifies as ever."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    environments = ({"SSL_CERT_FILE": str(certificate)}, {"SSL_CERT_FILE": "/dev/null"})
    said = [
        subprocess.run(
            [sys.executable, "-c", ASKS, str(certificate), str(key)],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            timeout=60,
        ).stdout.splitlines()
        for environment in environments
    ]
    assert said[0] == ["yes", "False None", "yes", "True True"]
    assert ": certificate not accepted: " in said[1][2]
