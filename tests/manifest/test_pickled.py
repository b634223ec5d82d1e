"""What comes out of a pickle starts the same processes as what went in."""

# A manifest is read line by line, each in one piece.
# ruff: noqa: E501

import json
import pickle
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.core.identity import InstanceId
from supervisor.manifest.load import Manifest, ManifestError, load
from supervisor.manifest.machine import Machine
from supervisor.manifest.templates import LATE_GENERATION, Scope, Template, constant, parse
from tests.manifest.conftest import Loader
from tests.manifest.test_fuzz import EXAMPLE, MACHINE, WORDS

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
MANY = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
EVERYTHING = """
state_directory: state
control: {http: "127.0.0.1:9911"}
pools:
  a:
    command: "run --port {{ 8000 + index }} '{{ pool }} x' {{ instance }} {{ '{{' }}"
    instances: 2
    user: nobody
    groups: [daemon, 0]
    environment: {A: "{{ generation % 7 }}", B: "{{ '{{ index }}' }}"}
    environment_files: [s.env]
    sockets: [{name: s, listen: "unix:run/{{ index }}.sock"}, {name: t, listen: "127.0.0.1:80"}]
    working_directory: work/{{ index }}
    limits: {nofile: 100:200, core: 0}
    readiness: {http: {url: "http://h:{{ 8000 + index }}/", headers: {X-Id: 7}, unix_socket: "run/{{ pool }}.sock"}}
    liveness: {tcp: "localhost:{{ 9000 + index }}"}
    drain: {http: "http://127.0.0.1:{{ 8000 + index }}/drain", until: {exec: [check, "{{ generation }}"]}}
    logs: {directory: "logs-{{ pool }}", format: json}
  b: {command: x, depends_on: {a: ready}, restart: {permanent_exit_codes: [3], give_up: {starts: 3, within: 1m}}}
"""


def assert_survives(before: Manifest) -> None:
    """Pickle it, and compare all that a daemon asks of it."""
    after = pickle.loads(pickle.dumps(before, pickle.HIGHEST_PROTOCOL))
    assert after == before
    assert list(after.plan.pools.items()) == list(before.plan.pools.items())
    for name, pool in before.plan.pools.items():
        instances = pool.instances + pool.rollout.max_surge
        for index in {0, *range(min(instances, 4)), max(0, instances - 1)}:
            for generation in (1, LATE_GENERATION):
                one = InstanceId(name, index)
                assert after.launch(one, generation) == before.launch(one, generation)
                assert type(after.launch(one, 1).environment) is type(before.launch(one, 1).environment)


def test_all_that_a_pool_can_say(manifest: Loader) -> None:
    """Templates, sockets, checks, secrets and limits arrive."""
    assert_survives(manifest(EVERYTHING, s__env="TOKEN=secret\n"))


def test_a_directory_that_looks_like_a_template(tmp_path: Path, machine: Machine) -> None:
    """What was never read as a template is not read as one on the way either."""
    place = tmp_path / "{{ index }} {{"
    place.mkdir()
    (place / "m.yaml").write_text(EVERYTHING)
    (place / "s.env").write_text("")
    loaded = load(place / "m.yaml", machine=machine)
    assert loaded.launch(InstanceId("b", 0), 1).working_directory == str(place)
    assert_survives(loaded)


def test_a_path_that_begins_with_a_template_may_be_absolute(manifest: Loader) -> None:
    """Whether a path of a unix socket is relative is seen when it is filled in, as for every other path."""
    check = "{http: {url: 'http://h/', unix_socket: %s}}"
    readiness, liveness = check % "\"{{ '/run' }}/s\"", check % '"{{ pool }}/s"'
    loaded = manifest(f"pools: {{a: {{command: x, readiness: {readiness}, liveness: {liveness}}}}}")
    launch = loaded.launch(InstanceId("a", 0), 1)
    assert getattr(launch.readiness, "unix_socket", None) == "/run/s"
    assert str(getattr(launch.liveness, "unix_socket", None)).endswith("/a/s")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_examples(path: Path) -> None:
    """Every manifest that we hand out."""
    assert_survives(load(path, machine=Machine(0, 0, "h", {"PATH": "/bin"})))


@MANY
@given(
    st.lists(
        st.sampled_from(
            ["{{ index }}", "{{ 3 + index * 2 }}", "{{ pool }}", "{{ '{{' }}", "a", "é", "}}", " "]
        ),
        max_size=6,
    )
)
def test_any_template(pieces: list[str]) -> None:
    """A template renders the same text afterwards, and is as constant as it was."""
    for before in (parse("".join(pieces)), constant("".join(pieces))):
        after: Template = pickle.loads(pickle.dumps(before))
        assert (after.source, after.spans, after.constant) == (before.source, before.spans, before.constant)
        for scope in (Scope("a", 0, 1), Scope("b", 7, LATE_GENERATION)):
            assert after.render(scope) == before.render(scope)


VALUE = st.sampled_from(
    ["x", "{{ index }}", "a {{ pool }} b", "{{ 8000 + index }}", "{{ '{{' }}", "{{ generation }}"]
)
POOL = st.fixed_dictionaries(
    {"command": st.lists(VALUE, min_size=1, max_size=3)},
    optional={
        "instances": st.integers(0, 3),
        "kind": st.sampled_from(["service", "task"]),
        "environment": st.dictionaries(st.sampled_from(["A", "B", "C"]), VALUE),
        "working_directory": VALUE,
        "nice": st.integers(-20, 19),
        "umask": st.sampled_from(["0022", "0077"]),
        "watchdog": st.sampled_from(["5s", 7]),
        "readiness": st.sampled_from(
            [{"notify": True}, {"tcp": "h:{{ 80 + index }}"}, {"exec": ["{{ pool }}"]}]
        ),
        "liveness": st.builds(lambda path: {"http": {"url": "http://h/", "unix_socket": path}}, VALUE),
        "drain": st.sampled_from(
            [{"signal": "USR1"}, {"exec": ["d"], "until": {"tcp": 80}}, {"settle": "1s"}]
        ),
        "stop": st.sampled_from([{"preset": "celery"}, {"stages": [{"signal": "INT", "grace": "1s"}]}]),
        "restart": st.sampled_from([{"policy": "never"}, {"permanent_exit_codes": [1, 2]}]),
        "limits": st.sampled_from([{"nofile": 64}, {"as": "1GiB"}]),
        "logs": st.builds(lambda place: {"directory": place, "format": "timestamp"}, VALUE),
        "sockets": st.builds(lambda path: [{"name": "s", "listen": f"unix:{path}{{{{ instance }}}}"}], VALUE),
        "rollout": st.sampled_from([{"max_unavailable": 2}, {"min_ready": 0}]),
    },
)


@MANY
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), POOL, min_size=1, max_size=3))
def test_any_manifest(tmp_path: Path, pools: dict[str, object]) -> None:
    """Manifests that are valid with a few exceptions."""
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"pools": pools}))
    try:
        loaded = load(path, machine=MACHINE)
    except ManifestError:
        return
    assert_survives(loaded)


@pytest.mark.parametrize("seed", range(60))
def test_mutations_of_the_example(tmp_path: Path, seed: int) -> None:
    """The annotated example with a word of it replaced by another, where it is valid still."""
    dice = random.Random(seed)
    path = tmp_path / "m.yaml"
    for _ in range(5):
        words = EXAMPLE.split(" ")
        words[dice.randrange(len(words))] = dice.choice(WORDS)
        path.write_text(" ".join(words))
        try:
            loaded = load(path, machine=MACHINE)
        except ManifestError:
            continue
        assert_survives(loaded)
