"""Whatever the text is: a manifest, or `ManifestError` with places; never anything else."""

# A table of sentences is read line by line, each in one piece.
# ruff: noqa: E501

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.core.identity import InstanceId
from supervisor.manifest.load import ManifestError, load
from supervisor.manifest.machine import Machine

EXAMPLE = (Path(__file__).resolve().parents[2] / "configs" / "example.yaml").read_text(encoding="utf-8")
MACHINE = Machine(0, 0, "h", {"PATH": "/usr/bin:/bin"})
MANY = settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

WORDS = [
    "pools", "defaults", "include", "command", "instances", "environment", "environment_files", "readiness", "liveness",
    "http", "tcp", "exec", "notify", "stop", "stages", "preset", "drain", "until", "settle", "window", "user", "groups",
    "depends_on", "restart", "backoff", "limits", "nofile", "logs", "directory", "umask", "version", "control", "unix",
    "a", "b", "SIGTERM", "KILL", "celery", "sidekiq", "30s", "-1", "0", "1", "0022", "1e9", ".inf", "true", "null", "~",
    "'{{ index }}'", '"{{"', "'{{ 1 // 0 }}'", "127.0.0.1:80", "99999", "http://x/", "50MiB", "*a", "&a", "<<", "!!str",
    "|", ">", "-", "?", ":", "[", "]", "{", "}", ",", "#", "'", '"', "\\", "%", "@", "`", "---", "...", "\t", "é", "\u2028",
]  # fmt: skip


def judge(path: Path, text: str | bytes) -> None:
    """Load a text; what comes of it must be whole."""
    path.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    try:
        loaded = load(path, machine=MACHINE)
    except ManifestError as caught:
        error = caught
    else:
        for name, pool in loaded.plan.pools.items():
            for index in range(min(pool.instances, 3)):
                launch = loaded.launch(InstanceId(name, index), 2)
                assert launch.argv
                assert all("\0" not in word for word in launch.argv)
                assert launch.working_directory.startswith("/")
        return
    assert error.problems
    assert str(error).count("\n") >= len(error.problems)
    for problem in error.problems:
        assert problem.place.line >= 1
        assert problem.place.column >= 1
        assert "\n" not in str(problem)
        assert "Traceback" not in str(problem)
        assert "pydantic" not in str(problem).lower()


@MANY
@given(
    st.lists(
        st.tuples(st.sampled_from(WORDS), st.sampled_from([" ", "\n", ": ", "\n  ", "\n    ", "", ", "])),
        max_size=60,
    )
)
def test_words_of_the_format(tmp_path: Path, pieces: list[tuple[str, str]]) -> None:
    """Text that looks like a manifest, in any order."""
    judge(tmp_path / "m.yaml", "".join(word + gap for word, gap in pieces))


@MANY
@given(st.binary(max_size=400))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    """Bytes of any kind."""
    judge(tmp_path / "m.yaml", content)


@MANY
@given(st.text(max_size=200))
def test_any_text(tmp_path: Path, content: str) -> None:
    """Characters of any kind."""
    judge(tmp_path / "m.yaml", f"pools:\n  a:\n    command: x\n    {content}\n")


DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10**6)
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS[:33]), inner, max_size=5)
    ),
    max_leaves=20,
)
KEYS = [
    "command", "instances", "kind", "critical", "user", "group", "groups", "working_directory", "umask", "nice",
    "oom_score_adjust", "environment", "environment_files", "depends_on", "startup", "readiness", "liveness", "watchdog",
    "restart", "drain", "stop", "rollout", "limits", "logs", "sockets", "schedule", "zzz",
]  # fmt: skip


@MANY
@given(
    st.dictionaries(st.sampled_from(KEYS), DATA, max_size=6),
    st.dictionaries(st.sampled_from(KEYS), DATA, max_size=3),
)
def test_any_value_under_any_key(
    tmp_path: Path, pool: dict[str, object], defaults: dict[str, object]
) -> None:
    """Well-formed text with values of the wrong kind everywhere."""
    import json

    content = {"pools": {"a": {"command": "x", **pool}}, "defaults": defaults}
    judge(tmp_path / "m.yaml", json.dumps(content))


@pytest.mark.parametrize("seed", range(300))
def test_mutations_of_the_example(tmp_path: Path, seed: int) -> None:
    """The annotated example with pieces cut, doubled, swapped and replaced."""
    dice = random.Random(seed)
    text = EXAMPLE
    for _ in range(dice.randint(1, 6)):
        at, to = sorted(dice.randrange(len(text)) for _ in range(2))
        to = min(to, at + dice.choice([1, 3, 20, 200]))
        piece = dice.choice(
            ["", dice.choice(WORDS), text[at:to] * 2, "\n", "  ", chr(dice.randrange(1, 0x2100))]
        )
        text = text[:at] + piece + text[to:]
    judge(tmp_path / "m.yaml", text)
    lines = EXAMPLE.splitlines()
    dice.shuffle(lines)
    judge(tmp_path / "m.yaml", "\n".join(lines[: dice.randrange(len(lines))]))
