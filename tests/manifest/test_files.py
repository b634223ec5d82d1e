"""Files that are no manifest: each is one problem, within bounded time and memory."""

# A table of sentences is read line by line, each in one piece.
# ruff: noqa: E501

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.core.identity import InstanceId
from supervisor.manifest.load import ManifestError, load

POOLS = "pools: {a: {command: b}}\n"


def problems_of(path: Path) -> list[str]:
    """The complaints about a file, without its directory."""
    with pytest.raises(ManifestError) as caught:
        load(path)
    return [str(problem).replace(f"{path.parent}/", "") for problem in caught.value.problems]


def laughs(levels: int) -> str:
    """Aliases of aliases: each level is nine times the one before."""
    lines = ["l0: &l0 [lol]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n" + POOLS


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "m.yaml:1:1: expected a mapping with pools, found an empty file"),
    "only a comment": (b"# nothing\n", "m.yaml:1:1: expected a mapping with pools, found an empty file"),
    "null": (b"~\n", "m.yaml:1:1: expected a mapping with pools, found an empty file"),
    "a text": (b"PASSWORD=hunter2\n", "m.yaml:1:1: expected a mapping with pools, found a text"),
    "a list": (b"- a\n", "m.yaml:1:1: expected a mapping with pools, found a list"),
    "binary": (b"\x7fELF\0\0\1", "m.yaml:1:1: cannot read the manifest: it is a binary file"),
    "latin-1": (
        b"name: x\npools: caf\xe9\n",
        "m.yaml:1:1: cannot read the manifest: it is not UTF-8 text (byte 18, line 2)",
    ),
    "huge": (
        b"a" * (1024 * 1024 + 1),
        "m.yaml:1:1: cannot read the manifest: it is longer than 1048576 bytes",
    ),
    "a control character": (
        b"name: x\npools: \x01\n",
        "m.yaml:2:8: expected YAML, found a character that it does not allow: control characters are not allowed",
    ),
    "a tab": (
        b"pools:\n\ta: b\n",
        "m.yaml:2:1: expected YAML, found a syntax error: found character that cannot start any token",
    ),
    "an open bracket": (
        b"pools: [a\n",
        "m.yaml:2:1: expected YAML, found a syntax error: did not find expected ',' or ']'",
    ),
    "two documents": (b"a: 1\n---\nb: 2\n", "m.yaml:2:1: expected one document, found a second one"),
    "a tag": (
        b"pools: !!python/object:os.system [x]\n",
        'm.yaml:1:8: expected no tag, found "tag:yaml.org,2002:python/object:os.system"',
    ),
    "deep": (b"[" * 500, "m.yaml:1:33: expected at most 32 levels of nesting, found more"),
    "deep blocks": (
        b"".join(b" " * n + b"a:\n" for n in range(100)),
        "m.yaml:33:33: expected at most 32 levels of nesting, found more",
    ),
    "an alias of itself": (b"a: &a [*a]\n", 'm.yaml:1:8: expected a value, found "*a", which holds itself'),
    "an unknown alias": (
        b"a: &anchor 1\nb: *anchr\n",
        'm.yaml:2:4: expected the name of an anchor, found "*anchr"; did you mean "anchor"?',
    ),
    "a mapping as key": (b"? {a: 1}\n: 2\n", "m.yaml:1:3: expected a name as key, found a collection"),
    "no key": (b'"": 2\n', "m.yaml:1:1: expected a name as key, found nothing"),
    "a wrong merge": (
        b"a: {<<: [1]}\n",
        'm.yaml:1:10: expected a mapping to merge with "<<", found something else',
    ),
}


def test_a_file_that_is_nesting_alone_is_one_problem(tmp_path: Path) -> None:
    """Wherever the first to lose patience is, the library or we: the same sentence, at once."""
    path = tmp_path / "m.yaml"
    path.write_bytes(b"[" * 100_000)
    (problem,) = problems_of(path)
    assert problem.startswith("m.yaml:1:")
    assert problem.endswith(": expected at most 32 levels of nesting, found more")


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_problem(tmp_path: Path, case: str) -> None:
    """Whatever the bytes are, there is one sentence about them."""
    content, expected = BAD[case]
    path = tmp_path / "m.yaml"
    path.write_bytes(content)
    assert problems_of(path) == [expected]


def test_duplicate_keys_are_all_reported(tmp_path: Path) -> None:
    """A key that is written twice is never silently one of the two."""
    path = tmp_path / "m.yaml"
    path.write_text("name: a\nname: b\npools:\n  a: {command: x, command: y}\n  a: {command: z}\n")
    assert problems_of(path) == [
        'm.yaml:2:1: expected each key once, found "name" again (first in line 1)',
        'm.yaml:4:19: expected each key once, found "command" again (first in line 4)',
        'm.yaml:5:3: expected each key once, found "a" again (first in line 4)',
    ]


def _make_fifo(path: Path) -> None:
    os.mkfifo(path)


def _make_directory(path: Path) -> None:
    path.mkdir()


def _make_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file or directory"),
        (_make_directory, "it is a directory"),
        (_make_fifo, "it is not a regular file"),
        (_make_loop, "too many levels of symbolic links"),
    ],
)
def test_what_is_no_file(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    """A missing file, a directory, a FIFO without a writer: one problem each, and no waiting."""
    path = tmp_path / "m.yaml"
    make(path)
    assert problems_of(path) == [f"m.yaml:1:1: cannot read the manifest: {reason}"]


def test_a_device_is_not_read() -> None:
    """An endless file ends the load at once."""
    assert problems_of(Path("/dev/zero")) == ["zero:1:1: cannot read the manifest: it is not a regular file"]


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal of the kernel is a problem like any other."""
    path = tmp_path / "m.yaml"
    path.write_text(POOLS)
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything
        opened = os.open

        def refuse(name: object, *rest: object, **more: object) -> int:
            if os.fspath(name) == os.fspath(path):  # type: ignore[call-overload]
                raise PermissionError(13, "Permission denied")
            return opened(name, *rest, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "open", refuse)
    assert problems_of(path) == ["m.yaml:1:1: cannot read the manifest: permission denied"]


def test_an_impossible_path(tmp_path: Path) -> None:
    """Not even a path with a NUL is a traceback."""
    with pytest.raises(ManifestError) as caught:
        load(f"{tmp_path}/a\0b.yaml")
    message = caught.value.problems[0].message
    assert message.startswith("cannot read the manifest: ")
    assert "embedded null " in message


@pytest.mark.parametrize("levels", [8, 20, 200])
def test_alias_bombs_do_not_go_off(tmp_path: Path, levels: int) -> None:
    """A few lines that mean a billion words are refused before they take memory."""
    path = tmp_path / "m.yaml"
    path.write_text(laughs(levels))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = problems_of(path)
    assert len(found) == 1
    assert "expected a manifest, found one that unfolds to more than 4 MiB" in found[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_an_alias_bomb_through_merge_keys(tmp_path: Path) -> None:
    """The same with `<<` ends as well."""
    lines = ["k0: &k0 {" + ", ".join(f"a{n}: x" for n in range(100)) + "}"]
    lines += [f"k{n}: &k{n} {{b{n}: *k{n - 1}, c{n}: *k{n - 1}, <<: *k{n - 1}}}" for n in range(1, 29)]
    path = tmp_path / "m.yaml"
    path.write_text("\n".join(lines))
    assert any("unfolds to more than" in line for line in problems_of(path))


def test_long_texts_shared_by_many_aliases(tmp_path: Path) -> None:
    """One long text used many times counts as often as it is used."""
    path = tmp_path / "m.yaml"
    many = ", ".join(["*t"] * 10_000)
    path.write_text(f"t: &t {'x' * 100_000}\nl: [{many}]\n")
    assert any("unfolds to more than" in line for line in problems_of(path))


def test_defaults_times_pools_are_bounded(tmp_path: Path) -> None:
    """Large defaults in hundreds of pools are refused, not merged until memory is gone."""
    path = tmp_path / "m.yaml"
    variables = "".join(f"    V{n}: {'x' * 50}\n" for n in range(10_000))
    pools = "".join(f"  p{n}: {{command: x, environment: {{A: b}}}}\n" for n in range(400))
    path.write_text(f"defaults:\n  environment:\n{variables}pools:\n{pools}")
    assert any("more than 8 MiB once the defaults" in line for line in problems_of(path))


@pytest.mark.parametrize(
    ("block", "line"),
    [("nonsense", "k{n}: 1"), ("environment", "k{n}: '{{ a }}'"), ("depends_on", "pool{n}: ready")],
)
@pytest.mark.timeout(120)
def test_the_largest_junk_ends(tmp_path: Path, block: str, line: str) -> None:
    """Tens of thousands of mistakes end in a bounded list and the full count."""
    path = tmp_path / "m.yaml"
    lines = "".join(f"      {line.replace('{n}', str(n))}\n" for n in range(30_000))
    pools = "".join(f"  p{n}: {{command: x}}\n" for n in range(400))
    path.write_text(f"pools:\n{pools}  a:\n    command: x\n    {block}:\n{lines}")
    with pytest.raises(ManifestError) as caught:
        load(path)
    assert 0 < len(caught.value.problems) <= 1000
    assert caught.value.found in {1, 30_000}


def test_json_is_yaml_too(tmp_path: Path) -> None:
    """A manifest written by a program needs no YAML library."""
    path = tmp_path / "m.json"
    path.write_text('{"pools": {"a": {"command": ["b", "\\u00e9"], "instances": 2}}}')
    launch = load(path).launch(InstanceId("a", 1), 1)
    assert launch.argv == ("b", "é")


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    """What operators use YAML's own sharing for goes on working."""
    path = tmp_path / "m.yaml"
    path.write_text(
        "defaults: {}\npools:\n  a: &a {command: [x, y], instances: 2}\n  b: {<<: *a, instances: 3}\n"
    )
    manifest = load(path)
    assert manifest.launch(InstanceId("b", 2), 1).argv == ("x", "y")
    assert manifest.plan.pools["b"].instances == 3
