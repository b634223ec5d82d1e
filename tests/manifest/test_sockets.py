"""What a pool may listen on, and what it gets; every mistake with its sentence and its place."""

# A table of sentences is read line by line, each in one piece.
# ruff: noqa: E501, ISC004, Q000

import os
import pwd
from pathlib import Path

import pytest

from supervisor.core.identity import InstanceId
from supervisor.core.launch import ListenSocket, TcpListen, UnixListen
from supervisor.manifest.machine import Machine
from tests.manifest.conftest import Complainer, Loader

ADDRESS = 'expected an address such as "127.0.0.1:8000", "[::1]:8000" or "unix:/run/app.sock"'

MISTAKES = {
    "name missing": ("{listen: 80}", "4:15: pools.api.sockets[0].name: expected name to be set, found nothing"),
    "listen missing": ("{name: a}", "4:15: pools.api.sockets[0].listen: expected listen to be set, found nothing"),
    "foreign key": ('{name: a, listen: 80, port: 80}', '4:37: pools.api.sockets[0].port: expected a key of a socket, found "port"; did you mean "listen"?'),
    "colon": ('{name: "a:b", listen: 80}', '4:22: pools.api.sockets[0].name: expected a name of at most 255 printable ASCII characters without ":", found "a:b"'),
    "control character": ('{name: "a\\tb", listen: 80}', '4:22: pools.api.sockets[0].name: expected a name of at most 255 printable ASCII characters without ":", found "a\\tb"'),
    "empty name": ('{name: "", listen: 80}', '4:16: pools.api.sockets[0].name: expected a name of at most 255 printable ASCII characters without ":", found an empty text'),
    "umlaut": ('{name: ä, listen: 80}', '4:22: pools.api.sockets[0].name: expected a name of at most 255 printable ASCII characters without ":", found "ä"'),
    "port 0": ("{name: a, listen: 0}", "4:33: pools.api.sockets[0].listen: expected a port between 1 and 65535, found 0"),
    "port 65536": ("{name: a, listen: '[::1]:65536'}", '4:33: pools.api.sockets[0].listen: expected a port between 1 and 65535, found "[::1]:65536"'),
    "name of a host": ("{name: a, listen: localhost:80}", f'4:33: pools.api.sockets[0].listen: {ADDRESS} (names are not looked up), found "localhost:80"'),
    "any host": ("{name: a, listen: '*:80'}", f'4:33: pools.api.sockets[0].listen: {ADDRESS}, found "*:80"'),
    "no port": ("{name: a, listen: 127.0.0.1}", f'4:33: pools.api.sockets[0].listen: {ADDRESS}, found "127.0.0.1"'),
    "version six bare": ("{name: a, listen: '::1:80'}", f'4:33: pools.api.sockets[0].listen: {ADDRESS}, found "::1:80"'),
    "mapped": ("{name: a, listen: '[::ffff:127.0.0.1]:80'}", '4:33: pools.api.sockets[0].listen: expected the IPv4 address 127.0.0.1 itself, found "[::ffff:127.0.0.1]:80"'),
    "a path alone": ("{name: a, listen: /run/a.sock}", f'4:33: pools.api.sockets[0].listen: {ADDRESS}, found "/run/a.sock"'),
    "no path": ("{name: a, listen: 'unix:'}", '4:33: pools.api.sockets[0].listen: expected a path after "unix:" such as "unix:/run/app.sock", found "unix:"'),
    "abstract": ("{name: a, listen: 'unix:@a'}", '4:33: pools.api.sockets[0].listen: expected a path (an abstract socket has neither owner nor mode), found "unix:@a"'),
    "long path": (f"{{name: a, listen: 'unix:/{'x' * 107}'}}", f'4:33: pools.api.sockets[0].listen: expected a path of at most 107 bytes, found "unix:/{"x" * 53}…"'),
    "a directory": ("{name: a, listen: 'unix:/run/'}", '4:33: pools.api.sockets[0].listen: expected a path after "unix:" such as "unix:/run/app.sock", found "unix:/run/"'),
    "generation": ("{name: a, listen: '127.0.0.1:{{ 80 + generation }}'}", "4:33: pools.api.sockets[0].listen: expected an address without generation (a socket outlives every generation)"),
    "template out of range": ("{name: a, listen: '127.0.0.1:{{ 65535 + index }}'}", '4:33: pools.api.sockets[0].listen: expected a port between 1 and 65535, found "127.0.0.1:65536" for api/1'),
    "template unknown": ("{name: a, listen: '127.0.0.1:{{ port }}'}", '4:33: pools.api.sockets[0].listen: expected index, generation, pool or instance in a template, found "port" (at character 14)'),
    "mode": ("{name: a, listen: 'unix:/a', mode: 8}", '4:50: pools.api.sockets[0].mode: expected an octal number with a leading zero such as "0022", found 8'),
    "mode of a port": ("{name: a, listen: 80, mode: 0660}", "4:43: pools.api.sockets[0].mode: expected mode beside a unix socket only, found it beside a TCP address"),
    "owner of a port": ("{name: a, listen: 80, owner: root}", "4:44: pools.api.sockets[0].owner: expected owner beside a unix socket only, found it beside a TCP address"),
    "unknown owner": ("{name: a, listen: 'unix:/a', owner: no-such-user}", '4:51: pools.api.sockets[0].owner: expected a user of this machine, found "no-such-user"'),
    "unknown group": ("{name: a, listen: 'unix:/a', owner: 'root:no-such-group'}", '4:51: pools.api.sockets[0].owner: expected a group of this machine, found "no-such-group"'),
    "group alone": ("{name: a, listen: 'unix:/a', owner: ':root'}", '4:51: pools.api.sockets[0].owner: expected a name or a number of an account, found ":root"'),
    "backlog": ("{name: a, listen: 80, backlog: 0}", "4:46: pools.api.sockets[0].backlog: expected a number of at least 1, found 0"),
    "one name twice": ("{name: a, listen: 80}, {name: a, listen: 81}", '4:45: pools.api.sockets[1].name: expected a name of its own, found "a" twice in this pool'),
    "one address twice": ("{name: a, listen: 80}, {name: b, listen: 127.0.0.1:80}", "4:56: pools.api.sockets[1].listen: expected an address that nobody else has, found 127.0.0.1:80, which pools.api.sockets[0] has too"),
    "a wildcard beside it": ("{name: a, listen: 80}, {name: b, listen: 0.0.0.0:80}", "4:56: pools.api.sockets[1].listen: expected an address that nobody else has, found 0.0.0.0:80, which pools.api.sockets[0] has too"),
    "a wildcard before it": ("{name: a, listen: '[::]:80'}, {name: b, listen: '[::1]:80'}", "4:63: pools.api.sockets[1].listen: expected an address that nobody else has, found [::1]:80, which pools.api.sockets[0] has too"),
    "one path twice": ("{name: a, listen: 'unix:/a/b'}, {name: b, listen: 'unix:/a//x/../b'}", "4:65: pools.api.sockets[1].listen: expected an address that nobody else has, found unix:/a/b, which pools.api.sockets[0] has too"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_one_mistake_is_one_sentence_at_its_place(complaints: Complainer, case: str) -> None:
    """Each mistake is reported once, at the value or key that is wrong, in these words."""
    text, expected = MISTAKES[case]
    found = complaints(
        f'pools:\n  api:\n    command: [sleep, "1"]\n    sockets: [{text}]\n    instances: 2\n'
    )
    assert found == [f"m.yaml:{expected}"]


def test_too_many(complaints: Complainer) -> None:
    """Sixteen sockets are enough for one worker."""
    listed = ", ".join(f"{{name: a{n}, listen: {n + 1}}}" for n in range(17))
    found = complaints(f"pools: {{api: {{command: a, sockets: [{listed}]}}}}")
    assert found == ["m.yaml:1:27: pools.api.sockets: expected at most 16 items, found a list"]


def test_pools_and_the_control_plane_share_nothing(complaints: Complainer) -> None:
    """Two pools on one socket, two instances' sockets that meet, and the daemon's own: all at once."""
    assert complaints(
        """
        control: {unix: run/c.sock, http: 9000}
        pools:
          a:
            command: x
            sockets: [{name: http, listen: 8000}]
          b:
            command: x
            instances: 3
            sockets: [{name: http, listen: "127.0.0.1:{{ 7998 + index }}"}, {name: c, listen: "unix:run/c.sock"}]
          c:
            command: x
            sockets:
              - {name: http, listen: 0.0.0.0:9000}
              - {name: other, listen: "[::1]:9000"}
        """
    ) == [
        "m.yaml:9:36: pools.b.sockets[0].listen: expected an address that nobody else has, found "
        "127.0.0.1:8000, which pools.a.sockets[0] has too",
        "m.yaml:9:87: pools.b.sockets[1].listen: expected an address that nobody else has, found "
        "unix:run/c.sock, which control.unix has too",
        "m.yaml:13:30: pools.c.sockets[0].listen: expected an address that nobody else has, found "
        "0.0.0.0:9000, which control.http has too",
    ]


def test_surge_instances_count(complaints: Complainer) -> None:
    """What an extra instance of a rollout would listen on is nobody else's, either."""
    assert complaints(
        """
        pools:
          a: {command: x, sockets: [{name: http, listen: 8001}]}
          b:
            command: x
            sockets: [{name: http, listen: "127.0.0.1:{{ 8000 + index }}"}]
            rollout: {max_surge: 1}
        """
    ) == [
        "m.yaml:5:36: pools.b.sockets[0].listen: expected an address that nobody else has, found "
        "127.0.0.1:8001, which pools.a.sockets[0] has too",
    ]


def test_what_arrives(manifest: Loader, tmp_path: Path) -> None:
    """Shared and own sockets of an instance in their order, paths beside the manifest, canonical addresses."""
    loaded = manifest(
        """
        pools:
          a:
            command: x
            instances: 2
            user: nobody
            sockets:
              - {name: http, listen: 8000, backlog: 7}
              - {name: v6, listen: "[0:0::1]:8000"}
              - {name: own, listen: "unix:run/{{ pool }}-{{ index }}.sock", mode: 0600, owner: daemon}
              - {name: two words, listen: "unix:/run/x.sock", owner: "1:2"}
              - {name: mine, listen: "unix:/run/y.sock"}
          b: {command: x}
        """
    )
    nobody, daemon = pwd.getpwnam("nobody"), pwd.getpwnam("daemon")
    own = f"{tmp_path}/run/a-1.sock"
    assert loaded.launch(InstanceId("a", 1), 5).sockets == (
        ListenSocket("http", TcpListen("127.0.0.1", 8000), 7),
        ListenSocket("v6", TcpListen("::1", 8000), 4096),
        ListenSocket("own", UnixListen(own, 0o600, (daemon.pw_uid, daemon.pw_gid)), 4096),
        ListenSocket("two words", UnixListen("/run/x.sock", 0o660, (1, 2)), 4096),
        ListenSocket("mine", UnixListen("/run/y.sock", 0o660, (nobody.pw_uid, nobody.pw_gid)), 4096),
    )
    assert loaded.plan.pools["a"].sockets == {
        "http": "127.0.0.1:8000",
        "v6": "[::1]:8000",
        "own": "unix:run/{{ pool }}-{{ index }}.sock",
        "two words": "unix:/run/x.sock",
        "mine": "unix:/run/y.sock",
    }
    assert loaded.launch(InstanceId("b", 0), 1).sockets == ()


def test_every_address_is_the_operators_word(manifest: Loader) -> None:
    """All addresses of the machine can be asked for, without a word about it; a port alone is loopback."""
    loaded = manifest(
        """
        pools:
          a:
            command: sh
            sockets: [{name: a, listen: 0.0.0.0:80}, {name: b, listen: "[::]:80"}, {name: c, listen: 81}]
        """
    )
    assert [str(one.address) for one in loaded.launch(InstanceId("a", 0), 1).sockets] == [
        "0.0.0.0:80",
        "[::]:80",
        "127.0.0.1:81",
    ]
    assert [str(one) for one in loaded.warnings] == []


def test_defaults_may_hold_a_template(manifest: Loader) -> None:
    """One line in `defaults` gives each pool a socket of its own."""
    loaded = manifest(
        """
        defaults: {sockets: [{name: app, listen: "unix:/run/shop/{{ pool }}.sock"}]}
        pools: {a: {command: x}, b: {command: x}, c: {command: x, sockets: null}}
        """
    )
    shown = {name: dict(pool.sockets) for name, pool in loaded.plan.pools.items()}
    assert loaded.launch(InstanceId("b", 0), 1).sockets[0].address == UnixListen("/run/shop/b.sock", 0o660)
    assert shown == {
        "a": {"app": "unix:/run/shop/{{ pool }}.sock"},
        "b": {"app": "unix:/run/shop/{{ pool }}.sock"},
        "c": {},
    }


def test_without_root_nothing_is_given_away(complaints: Complainer, manifest: Loader) -> None:
    """Who is not root can own what it makes, and no more."""
    me = Machine(os.getuid() or 1, os.getgid() or 1, "h", {"HOME": "/tmp"})
    text = "pools: {a: {command: x, sockets: [{name: a, listen: 'unix:/tmp/a', owner: OWNER}]}}"
    found = complaints(text.replace("OWNER", "65534"), on=me)
    assert found == ["m.yaml:1:75: pools.a.sockets[0].owner: cannot give it to 65534: pitbossd is not root"]
    manifest(text.replace("OWNER", str(me.uid)), on=me)


def test_sockets_belong_to_the_definition(manifest: Loader) -> None:
    """Another address is another revision of the pool."""
    first = manifest("pools: {a: {command: x, sockets: [{name: a, listen: 80}]}}").plan.pools["a"].revision
    second = manifest("pools: {a: {command: x, sockets: [{name: a, listen: 81}]}}").plan.pools["a"].revision
    assert first != second
