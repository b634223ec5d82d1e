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

LOOKS = """
import builtins, sys
compiles, compiled_for = compile, set()
def noted(*arguments, **options):
    compiled_for.add(sys._getframe(1).f_globals["__name__"])
    return compiles(*arguments, **options)
builtins.compile = noted
from supervisor.cli.pitbossd_imports import LATE, keep_small
before = set(sys.modules)
keep_small()
import asyncio, dataclasses, functools, hashlib, http.client, http.cookies, inspect, logging, typing
import traceback
from supervisor.manifest.addresses import is_loopback

def late():
    return {name for name, module in sys.modules.items() if type(module).__name__ == "_Late"}

print(*sorted(late()))
print(*sorted(name for name in LATE if name in sys.modules and name not in late() | before))
print(http.client is sys.modules["http.client"])
print("typing" in compiled_for)
from starlette.datastructures import Address
print(typing.get_type_hints(Address))
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
named = ("uvicorn._types", "uvicorn.config", "uvicorn.server")
print(*(name for name in named if "__file__" in vars(sys.modules[name])))
def task():
    yield
async def asks():
    pass
async def asked():
    yield
class Answer:
    async def give(self):
        pass
partly = functools.partial(Answer().give)
shown = functools.wraps(task)(lambda: None)
questions = ("isfunction", "ismethod", "isgeneratorfunction", "iscoroutinefunction", "isasyncgenfunction")
abouts = (task, asks, asked, Answer, Answer.give, Answer().give, partly, len, None, shown)
def answers():
    found = [getattr(inspect, question)(about) for question in questions for about in abouts]
    return [*found, inspect.unwrap(shown) is task]
stood_in = answers()
print("inspect" in late(), bool(inspect.signature), stood_in == answers(), "inspect" in late())

async def said():
    process = await asyncio.create_subprocess_exec("/bin/echo", "said", stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0]

print(asyncio.run(said()), is_loopback("127.0.0.2"), inspect.getsource(late).splitlines()[:1])
try:
    raise ExceptionGroup("together", [ValueError("alone")])
except ExceptionGroup as error:
    print("alone" in "".join(traceback.format_exception(error)))
print(late() & {"subprocess", "ipaddress", "tokenize", "textwrap"})
"""


def test_what_comes_late_is_as_good_as_if_it_had_been_there(tmp_path: Path) -> None:
    """A look into each brings the real one, to those as well that were imported with what stood in for it."""
    script = tmp_path / "looks.py"
    script.write_text(LOOKS)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()
    assert set(done[0].split()) >= {"hashlib", "inspect", "subprocess", "textwrap"}
    assert done[1:3] == ["", "True"], "none has come, and a package has each as if it had"
    assert done[3] == "False", "a type that is text makes the classes of all nodes of source code"
    assert done[4] == str({"host": str, "port": int})
    assert done[5] == "", "what uvicorn names in annotations only"
    assert done[6] == "True True True False", "what is said of functions before and after"
    assert done[7:] == ["b'said\\n' True ['def late():']", "True", "set()"]


DEFINES = """
import sys
if sys.argv[1] == "shared":
    from supervisor.cli.pitbossd_imports import keep_small
    keep_small()
import dataclasses, pickle

def what_is_said(call):
    try:
        return call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    name: str
    secret: str = dataclasses.field(default="s", repr=False)

@dataclasses.dataclass(frozen=True)
class Loose:
    name: str

class Below(Loose):
    pass

@dataclasses.dataclass
class Ring:
    me: object = None

class Outer:
    @dataclasses.dataclass(order=True)
    class Inner:
        "It has words."
        number: int

def twice():
    @dataclasses.dataclass(frozen=True)
    class Twice:
        name: str
        def __setattr__(self, name, value):
            pass

print(what_is_said(twice))
place, below, ring = Place("a"), Below("b"), Ring()
ring.me = [ring, place]
below.more = 1
del below.more
print(place, below, ring, Outer.Inner(3))
for one in (place, Loose("c"), below):
    print(what_is_said(lambda: setattr(one, "name", "x")), what_is_said(lambda: delattr(one, "name")))
    # Of one with slots Python 3.11 says something about super() instead.
    if one is not place:
        print(what_is_said(lambda: setattr(one, "other", "x")), what_is_said(lambda: delattr(one, "no")))
print(place == Place("a"), hash(place) == hash(Place("a")), Outer.Inner(1) < Outer.Inner(2), Ring() != ring)
print(pickle.loads(pickle.dumps(place)) == place, dataclasses.replace(place, name="d"))
print(Outer.Inner.__doc__)
print(Place.__repr__ is Loose.__repr__, Place.__setattr__ is Loose.__setattr__, file=sys.stderr)
"""


def test_dataclasses_that_share_their_methods_are_as_good_as_others(tmp_path: Path) -> None:
    """They are shown, refuse, compare and travel in the same way, and do have the same methods."""
    script = tmp_path / "defines.py"
    script.write_text(DEFINES)
    own, shared = (
        subprocess.run(
            [sys.executable, str(script), how], capture_output=True, text=True, check=True, timeout=60
        )
        for how in ("own", "shared")
    )
    assert own.stdout == shared.stdout
    assert "FrozenInstanceError: cannot assign to field 'name'" in shared.stdout
    assert (own.stderr.strip(), shared.stderr.strip()) == ("False False", "True True")


READS = """
import sys
from supervisor.cli import pitbossd
from importlib import import_module
try:
    pitbossd.main(["check", sys.argv[1]])
except SystemExit as end:
    print(end.code, *(name for name in ("pydantic", "email", "zipfile") if name in sys.modules))
print(bool(import_module("importlib.metadata").version("pydantic")))
"""


def test_nobody_is_asked_for_plugins(tmp_path: Path) -> None:
    """A manifest is read without what looks through all that is installed; which is there for who asks."""
    manifest = tmp_path / "pitboss.yaml"
    manifest.write_text("{version: 1, pools: {one: {command: [sleep, '1']}}}")
    said = subprocess.run(
        [sys.executable, "-c", READS, str(manifest)], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.splitlines()[1:] == ["0 pydantic", "True"], said


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
