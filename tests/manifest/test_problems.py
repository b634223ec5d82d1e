"""Every mistake an operator can make: the exact sentence, at the exact place."""

# A table of sentences is read line by line, each in one piece.
# ruff: noqa: E501, ISC004

import pytest

from supervisor.manifest.load import ManifestError
from tests.manifest.conftest import Complainer, Loader

# What is written below `pools: {api: {command: [sleep, "1"], ...}}` from line 4 on, and the one
# complaint about it, without the file.
ONE = {
    "unknown key": ("comand: x", '4:5: pools.api.comand: expected a key of a pool, found "comand"; did you mean "command"?'),
    "foreign key": ("numprocs: 2", '4:5: pools.api.numprocs: expected a key of a pool, found "numprocs"; did you mean "instances"?'),
    "unknown nested key": (
        "rollout: {min_redy: 1s}",
        '4:15: pools.api.rollout.min_redy: expected a key of rollout, found "min_redy"; did you mean "min_ready"?',
    ),
    "unlike any key": (
        "startup: {zzz: 1}",
        '4:15: pools.api.startup.zzz: expected a key of startup, found "zzz" (the keys of startup are timeout, min_uptime)',
    ),
    "wrong type": ("instances: many", '4:16: pools.api.instances: expected a whole number, found "many"'),
    "boolean as number": ("instances: true", "4:16: pools.api.instances: expected a whole number, found true"),
    "word as boolean": ("critical: yes", '4:15: pools.api.critical: expected true or false, found "yes"'),
    "too many instances": ("instances: 1001", "4:16: pools.api.instances: expected a number of at most 1000, found 1001"),
    "negative": ("instances: -1", "4:16: pools.api.instances: expected a number of at least 0, found -1"),
    "block as word": ("restart: always", '4:14: pools.api.restart: expected a mapping, found "always"'),
    "list as word": ("environment_files: x", '4:24: pools.api.environment_files: expected a list, found "x"'),
    "mapping as list": ("environment: [a]", "4:5: pools.api.environment: expected a mapping, found a list"),
    "duration": (
        "watchdog: 30 parsecs",
        '4:15: pools.api.watchdog: expected a duration such as "500ms", "30s" or "5m", or a number of seconds, '
        'found "30 parsecs"',
    ),
    "duration of nothing": ("watchdog: 0s", '4:15: pools.api.watchdog: expected a duration above 0, found "0s"'),
    "size": (
        "logs: {max_bytes: 5 apples}",
        '4:23: pools.api.logs.max_bytes: expected a size such as "64KiB" or "50MiB", or a number of bytes, '
        'found "5 apples"',
    ),
    "signal": (
        "drain: {signal: SIGURS1}",
        '4:21: pools.api.drain.signal: expected the name of a signal such as SIGTERM, found "SIGURS1"; '
        'did you mean "SIGUSR1"?',
    ),
    "short signal": (
        "drain: {signal: TRM}",
        '4:21: pools.api.drain.signal: expected the name of a signal such as SIGTERM, found "TRM"; did you mean "TERM"?',
    ),
    "kill": (
        "stop: {stages: [{signal: KILL, grace: 1s}]}",
        "4:30: pools.api.stop.stages[0].signal: expected a signal that a worker can answer "
        '(kill always comes last by itself), found "KILL"',
    ),
    "sigstop": (
        "stop: {stages: [{signal: SIGSTOP, grace: 1s}]}",
        "4:30: pools.api.stop.stages[0].signal: expected a signal that a worker can answer "
        '(a stopped worker can finish nothing), found "SIGSTOP"',
    ),
    "no stages": ("stop: {stages: []}", "4:12: pools.api.stop.stages: expected at least 1 item, found an empty list"),
    "grace missing": (
        "stop: {stages: [{signal: TERM}]}",
        "4:21: pools.api.stop.stages[0].grace: expected grace to be set, found nothing",
    ),
    "target": (
        "stop: {stages: [{signal: TERM, grace: 1s, target: al}]}",
        '4:55: pools.api.stop.stages[0].target: expected main or all, found "al"; did you mean "all"?',
    ),
    "preset": (
        "stop: {preset: celeri}",
        "4:20: pools.api.stop.preset: expected celery, rq, dramatiq, huey, sidekiq, gunicorn, uvicorn, nginx, php-fpm, "
        'puma, postgresql, redis or node, found "celeri"; did you mean "celery"?',
    ),
    "stages and preset": (
        "stop: {preset: rq, stages: [{signal: TERM, grace: 1s}]}",
        "4:5: pools.api.stop: expected at most one of stages or preset, found stages and preset",
    ),
    "umask": (
        "umask: 22",
        '4:12: pools.api.umask: expected an octal number with a leading zero such as "0022", found 22',
    ),
    "environment boolean": (
        "environment: {DEBUG: true}",
        "4:26: pools.api.environment.DEBUG: expected a text or a number, found true; "
        'write it in quotes ("true") if it is a text',
    ),
    "environment null": (
        "environment: {DEBUG: }",
        "4:19: pools.api.environment.DEBUG: expected a text or a number, found nothing; "
        'write it in quotes ("null") if it is a text',
    ),
    "environment name": (
        "environment: {A-B: x}",
        '4:19: pools.api.environment.A-B: expected a name of letters, digits and _, found "A-B"',
    ),
    "environment reserved": (
        "environment: {PITBOSS_POOL: x}",
        '4:19: pools.api.environment.PITBOSS_POOL: expected a variable of the worker, found "PITBOSS_POOL" '
        "(pitbossd sets it)",
    ),
    "two probes": (
        "readiness: {tcp: 80, notify: true}",
        "4:5: pools.api.readiness: expected exactly one of notify, http, tcp or exec, found notify and tcp",
    ),
    "no probe": (
        "liveness: {period: 1s}",
        "4:5: pools.api.liveness: expected one of http, tcp or exec, found none of them",
    ),
    "probe timeout": (
        "readiness: {tcp: 80, period: 1s, timeout: 2s}",
        "4:47: pools.api.readiness.timeout: expected at most the period of 1s, found 2s",
    ),
    "https": (
        'readiness: {http: "https://x/"}',
        "4:23: pools.api.readiness.http.url: expected an http:// URL (TLS is left to an exec probe), "
        'found "https://x/"',
    ),
    "url": (
        "readiness: {http: {url: 'x y'}}",
        '4:29: pools.api.readiness.http.url: expected a URL such as "http://127.0.0.1:8000/healthz", found "x y"',
    ),
    "port": (
        "readiness: {tcp: 127.0.0.1:70000}",
        '4:22: pools.api.readiness.tcp: expected a port between 1 and 65535, found "127.0.0.1:70000"',
    ),
    "header": (
        'readiness: {http: {url: "http://x/", headers: {A: "x\\r\\nB: y"}}}',
        "4:55: pools.api.readiness.http.headers.A: expected a header of printable ASCII characters, "
        "found something else",
    ),
    "port of a template": (
        "readiness: {tcp: '127.0.0.1:{{ 65536 + index }}'}",
        '4:22: pools.api.readiness.tcp: expected a port between 1 and 65535, found "127.0.0.1:65536" for api/0',
    ),
    "port of a generation": (
        "readiness: {tcp: '{{ 8000 + generation }}'}",
        '4:22: pools.api.readiness.tcp: expected "host:port" such as "127.0.0.1:8000", '
        'found "1000008000" for api/0 in generation 1000000000',
    ),
    "drain without anything": (
        "drain: {}",
        "4:5: pools.api.drain: expected signal, http, exec, notify, until or settle, found none of them",
    ),
    "drain window": (
        "drain: {window: 5s}",
        "4:21: pools.api.drain.window: expected signal, http, exec, notify or until beside a window, "
        "found nothing to wait for",
    ),
    "min_uptime": (
        "startup: {timeout: 1s, min_uptime: 1s}",
        "4:40: pools.api.startup.min_uptime: expected less than startup.timeout (1s), found 1s",
    ),
    "startup timeout": (
        "startup: {timeout: 5s}\n    readiness: {tcp: 'localhost:1', period: 2s, success_threshold: 4}",
        "4:24: pools.api.startup.timeout: expected more, "
        "found a readiness probe that passes after 6s at the earliest",
    ),
    "backoff": (
        "restart: {backoff: {initial: 2m}}",
        "4:34: pools.api.restart.backoff.initial: expected at most restart.backoff.max (60s), found 120s",
    ),
    "jitter": (
        "restart: {backoff: {jitter: some}}",
        '4:33: pools.api.restart.backoff.jitter: expected full, none or a share between 0 and 1, found "some"',
    ),
    "policy": (
        "restart: {policy: on_failure}",
        "4:23: pools.api.restart.policy: expected always, on-failure or never, "
        'found "on_failure"; did you mean "on-failure"?',
    ),
    "task policy": (
        "kind: task\n    restart: {policy: always}",
        "5:23: pools.api.restart.policy: expected on-failure or never for a task, found always",
    ),
    "limits": (
        "limits: {nofile: 10:5}",
        '4:22: pools.api.limits.nofile: expected a soft limit that is not above the hard one, found "10:5"',
    ),
    "command quote": (
        'command: "a \'b"',
        "4:14: pools.api.command: expected a command line, found one that a shell could not split: No closing quotation",
    ),
    "command empty": ('command: ""', "4:5: pools.api.command: expected at least 1 item, found an empty list"),
    "command boolean": (
        "command: [a, true]",
        "4:18: pools.api.command[1]: expected a text or a number, found true; "
        'write it in quotes ("true") if it is a text',
    ),
    "command nul": (
        'command: [a, "b\\0c"]',
        "4:18: pools.api.command[1]: expected a text, found one with a NUL character",
    ),
    "home": (
        "working_directory: ~/x",
        '4:24: pools.api.working_directory: expected a whole path (~ is not expanded), found "~/x"',
    ),
    "template": (
        'environment: {A: "{{ indx }}"}',
        "4:22: pools.api.environment.A: expected index, generation, pool or instance in a template, "
        'found "indx" (at character 4)',
    ),
    "unknown user": (
        "user: no-such-user",
        '4:11: pools.api.user: expected a user of this machine, found "no-such-user"',
    ),
    "unknown group": (
        "groups: [no-such-group]",
        '4:5: pools.api.groups: expected a group of this machine, found "no-such-group"',
    ),
    "environment file": (
        "environment_files: [nope]",
        '4:25: pools.api.environment_files[0]: cannot read "nope": no such file or directory',
    ),
    "unknown dependency": (
        "depends_on: {aip: ready}",
        '4:18: pools.api.depends_on.aip: expected the name of a pool, found "aip"; did you mean "api"?',
    ),
    "unknown dependency in a list": (
        "depends_on: [zzz]",
        '4:18: pools.api.depends_on.zzz: expected the name of a pool, found "zzz"',
    ),
    "condition": (
        "depends_on: {api: healthy}",
        '4:23: pools.api.depends_on.api: expected started, ready or completed, found "healthy"',
    ),
    "itself": (
        "depends_on: [api]",
        "4:18: pools.api.depends_on.api: expected pools that do not wait for each other, found api -> api",
    ),
}  # fmt: skip

LATER = {
    "requires: [{name: pg, tcp: 5432}]": "4:5: pools.api.requires",
    'schedule: "* * * * *"': "4:15: pools.api.schedule",
    "limits: {memory: 1GiB}": "4:22: pools.api.limits.memory",
    "limits: {cpu: 1.5}": "4:19: pools.api.limits.cpu",
    "limits: {pids: 100}": "4:20: pools.api.limits.pids",
}


@pytest.mark.parametrize("case", ONE)
def test_one_mistake_is_one_sentence_at_its_place(complaints: Complainer, case: str) -> None:
    """Each mistake is reported once, at the value or key that is wrong, in these words."""
    text, expected = ONE[case]
    command = "" if text.startswith("command:") else '    command: [sleep, "1"]\n'
    place = expected if command else expected.replace("4:", "3:", 1)
    found = complaints(f"pools:\n  api:\n{command}    {text}\n")
    assert found == [f"m.yaml:{place}"]


@pytest.mark.parametrize("text", LATER)
def test_keys_of_later_versions_are_refused_by_name(complaints: Complainer, text: str) -> None:
    """A key that is promised for later is not called unknown, and does nothing silently."""
    found = complaints(f'pools:\n  api:\n    command: [sleep, "1"]\n    {text}\n')
    assert len(found) == 1
    key = LATER[text].partition(": ")[2]
    assert f": {key}: not supported yet; it will come in a later version" in found[0]
    assert found[0].startswith("m.yaml:4:")


def test_later_values(complaints: Complainer, manifest: Loader) -> None:
    """The values that change nothing are accepted, others are refused."""
    assert complaints("pools: {a: {command: b, rollout: {max_surge: 1, on_failure: rollback}}}") == [
        'm.yaml:1:61: pools.a.rollout.on_failure: expected halt, found "rollback" '
        "(anything else is not supported yet; it will come in a later version)",
    ]
    assert complaints("control: {tls: {}, tokens: [], roles: {}}\npools: {a: {command: b}}") == [
        f"m.yaml:1:{column}: control.{key}: not supported yet; it will come in a later version"
        for column, key in ((11, "tls"), (20, "tokens"), (32, "roles"))
    ]
    manifest("pools: {a: {command: b, schedule: null, rollout: {max_surge: 0, on_failure: halt}}}")


def test_a_rollout_that_could_replace_nobody(complaints: Complainer, manifest: Loader) -> None:
    """Nobody may be away and nobody may be extra: said where it is written. One of the two is enough."""
    assert complaints("pools:\n  a:\n    command: b\n    rollout: {max_unavailable: 0}") == [
        "m.yaml:4:32: pools.a.rollout.max_unavailable: expected at least 1 where max_surge is 0, found 0 "
        "(nobody could ever be replaced)"
    ]
    assert complaints("pools: {a: {command: b, rollout: {max_unavailable: 0, max_surge: 0}}}") == [
        "m.yaml:1:52: pools.a.rollout.max_unavailable: expected at least 1 where max_surge is 0, found 0 "
        "(nobody could ever be replaced)"
    ]
    assert complaints("pools: {a: {command: b, rollout: {max_surge: -1}}}") == [
        "m.yaml:1:46: pools.a.rollout.max_surge: expected a number of at least 0, found -1"
    ]
    plan = manifest("pools: {a: {command: b, rollout: {max_unavailable: 0, max_surge: 2}}}").plan
    assert (plan.pools["a"].rollout.max_unavailable, plan.pools["a"].rollout.max_surge) == (0, 2)


def test_nobody_stands_in_for_a_task(complaints: Complainer) -> None:
    """It runs to completion: an extra one would do its work twice."""
    assert complaints("pools: {a: {command: b, kind: task, rollout: {max_surge: 2}}}") == [
        "m.yaml:1:58: pools.a.rollout.max_surge: expected 0 for a task (it runs to completion, nobody can "
        "stand in), found 2"
    ]


def test_addresses_are_good_for_surge_instances_too(complaints: Complainer, manifest: Loader) -> None:
    """The ports of the extra ones lie behind those of the declared ones."""
    pool = "command: b, instances: 2, readiness: {tcp: '127.0.0.1:{{ 65534 + index }}'}"
    manifest(f"pools: {{a: {{{pool}}}}}")
    found = complaints(f"pools: {{a: {{{pool}, rollout: {{max_surge: 1}}}}}}")
    assert len(found) == 1
    assert found[0].endswith('found "127.0.0.1:65536" for a/2')


def test_everything_is_reported_at_once(complaints: Complainer) -> None:
    """Mistakes of the host, of pools, of their relations and of the machine come in one go, sorted."""
    assert complaints(
        """
        versoin: 1
        shutdown: {deadline: 0}
        pools:
          api:
            comand: x
            depends_on: {wroker: ready, migrate: completed}
          worker:
            command: sleep 1
            instances: 1.5
            user: no-such-user
            depends_on: [cache]
            environment_files: [e__env]
          cache:
            command: sleep 1
            depends_on: [worker]
          migrate: {command: x}
          bad name: {command: x}
          lost: 7
        """.replace("e__env", "e.env"),
        e__env="A=1\nnonsense secret\n",
    ) == [
        'e.env:2:1: pools.worker.environment_files[0]: expected NAME=value, found a line without "="',
        'm.yaml:1:1: versoin: expected a key of a manifest, found "versoin"; did you mean "version"?',
        "m.yaml:2:22: shutdown.deadline: expected a duration above 0, found 0",
        "m.yaml:4:3: pools.api.command: expected command to be set, found nothing",
        'm.yaml:5:5: pools.api.comand: expected a key of a pool, found "comand"; did you mean "command"?',
        "m.yaml:6:42: pools.api.depends_on.migrate: expected started or ready, found completed "
        "(migrate is a service and never completes)",
        "m.yaml:9:16: pools.worker.instances: expected a whole number, found 1.5",
        'm.yaml:10:11: pools.worker.user: expected a user of this machine, found "no-such-user"',
        "m.yaml:11:18: pools.worker.depends_on.cache: expected pools that do not wait for each other, "
        "found worker -> cache -> worker",
        "m.yaml:17:3: pools.bad name: expected a name of letters, digits, _ . and - "
        '(at most 63, the first a letter or a digit), found "bad name"',
        "m.yaml:18:9: pools.lost: expected a mapping, found 7",
    ]


def test_the_text_of_the_error(manifest: Loader, tmp_path: object) -> None:
    """The last line counts, and says that nothing happened and what to do."""
    with pytest.raises(ManifestError) as caught:
        manifest("pools: {a: {comand: x}}")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert (
        lines[-1] == f'2 problems; nothing was started. Run "pitbossd check {tmp_path}/m.yaml" to try again.'
    )
    with pytest.raises(ManifestError, match=r"\n1 problem; nothing was started"):
        manifest("pools: {a: {command: x, nice: 100}}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", "m.yaml:1:1: pools: expected at least one pool, found none"),
        ("pools: {}", "m.yaml:1:1: pools: expected at least one pool, found none"),
        ("pools:", "m.yaml:1:1: pools: expected at least one pool, found none"),
        ("pools: [a]", "m.yaml:1:1: pools: expected a mapping, found a list"),
        ("version: 2\npools: {a: {command: b}}", "m.yaml:1:10: version: expected 1, found 2"),
        ("name: ' '\npools: {a: {command: b}}", 'm.yaml:1:7: name: expected a name of at most 253 printable characters, found " "'),
        ("control: {http: nowhere}\npools: {a: {command: b}}", 'm.yaml:1:17: control.http: expected "host:port" such as "127.0.0.1:8000", found "nowhere"'),
        (f"control: {{unix: /{'x' * 107}}}\npools: {{a: {{command: b}}}}", "m.yaml:1:17: control.unix: expected a path of at most 107 bytes, found one of 108"),
        ("defaults: {umask: 9}\npools: {a: {command: b}, c: {command: d}}", 'm.yaml:1:19: defaults.umask: expected an octal number with a leading zero such as "0022", found 9'),
    ],
)  # fmt: skip
def test_the_host(complaints: Complainer, text: str, expected: str) -> None:
    """What is wrong with the host is said once, also where it reaches every pool."""
    assert complaints(text) == [expected]


def test_junk_is_counted_and_not_kept(complaints: Complainer) -> None:
    """Thousands of mistakes cost bounded time and memory, and none is forgotten in the count."""
    junk = "".join(f"  key{n}: 1\n" for n in range(5000))
    found = complaints("pools: {a: {command: b}}\ndefaults:\n" + junk)
    assert len(found) == 1000
