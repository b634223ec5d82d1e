"""Defaults, several files, and which of two values counts."""

# A table of sentences is read line by line, each in one piece.
# ruff: noqa: E501

from pathlib import Path

from tests.manifest.conftest import Complainer, Loader, pools_of


def test_defaults_reach_every_pool(manifest: Loader) -> None:
    """Mappings are merged key by key, lists and words are replaced, null takes a default back."""
    loaded = manifest(
        """
        defaults:
          command: [run, me]
          environment: {A: "1", B: "2"}
          environment_files: [-x]
          restart: {backoff: {initial: 1s, max: 9s}, permanent_exit_codes: [1, 2]}
          readiness: {tcp: 80, period: 5s}
          watchdog: 10s
          stop: {preset: nginx}
          drain: {signal: USR1, window: 7s}
        pools:
          plain:
          other:
            command: other
            environment: {B: "3", C: "4"}
            environment_files: []
            restart: {backoff: {max: 8s}, permanent_exit_codes: [3]}
            readiness: {notify: true}
            watchdog: null
            stop: {stages: [{signal: INT, grace: 1s}]}
            drain: {exec: [true-ish]}
        """
    )
    pools = pools_of(loaded.path)
    plain, other = pools["plain"], pools["other"]
    assert (plain.command, other.command) == (["run", "me"], ["other"])
    assert plain.environment == {"A": "1", "B": "2"}
    assert other.environment == {"A": "1", "B": "3", "C": "4"}
    assert (plain.environment_files, other.environment_files) == (["-x"], [])
    assert (other.restart.backoff.initial, other.restart.backoff.max) == (1.0, 8.0)
    assert other.restart.permanent_exit_codes == [3]
    assert other.readiness is not None
    assert (other.readiness.notify, other.readiness.tcp) == (True, None)
    assert (plain.watchdog, other.watchdog) == (10.0, None)
    assert (plain.stop.preset, other.stop.preset) == ("nginx", None)
    assert other.drain is not None
    assert (other.drain.signal, other.drain.exec, other.drain.window) == (None, ["true-ish"], 7.0)


def test_later_files_override_by_key(manifest: Loader) -> None:
    """Included files come in the order of their names, each over what came before; so do defaults."""
    loaded = manifest(
        """
        include: ["[a-c].yaml", "missing-*.yaml"]
        shutdown: {deadline: 1m}
        defaults: {umask: 0022, nice: 1}
        pools:
          api: {command: one, instances: 2, environment: {A: "1"}}
        """,
        a__yaml="pools: {api: {instances: 3, environment: {B: '2'}}, jobs: {command: j}}\n",
        b__yaml="defaults: {umask: 0077}\npools: {api: {instances: 4}}\n",
    )
    pools = pools_of(loaded.path)
    assert list(pools) == list(loaded.plan.pools) == ["api", "jobs"]
    api = pools["api"]
    assert (api.command, api.instances, api.environment) == (["one"], 4, {"A": "1", "B": "2"})
    assert (api.umask, api.nice) == (0o077, 1)
    assert loaded.plan.shutdown_deadline_seconds == 60.0


def test_a_pool_may_be_spread_over_files(manifest: Loader) -> None:
    """What one file leaves out another may say."""
    loaded = manifest(
        "include: [extra.yaml]\npools: {api: {instances: 2}}\n", extra__yaml="pools: {api: {command: x}}\n"
    )
    assert pools_of(loaded.path)["api"].command == ["x"]


def test_problems_point_to_the_file_that_holds_the_value(complaints: Complainer) -> None:
    """Whoever wrote the value is told, also through defaults and overrides."""
    assert complaints(
        """
        include: [one.yaml, two.yaml]
        pools: {api: {command: x, nice: 50}}
        """,
        one__yaml="defaults: {umask: 9}\n",
        two__yaml="\npools:\n  api: {instances: lots}\n  b: {}\n",
    ) == [
        "m.yaml:2:33: pools.api.nice: expected a number of at most 19, found 50",
        'one.yaml:1:19: defaults.umask: expected an octal number with a leading zero such as "0022", found 9',
        'two.yaml:3:20: pools.api.instances: expected a whole number, found "lots"',
        "two.yaml:4:3: pools.b.command: expected command to be set, found nothing",
    ]


def test_includes_that_do_not_work(complaints: Complainer, tmp_path: Path) -> None:
    """A missing file, a circle, a broken file and a wrong line are each one problem at their place."""
    assert complaints(
        """
        include: [missing.yaml, loop.yaml, broken.yaml, 7, "*/x.yaml"]
        pools: {a: {command: x}}
        """,
        loop__yaml="include: [m.yaml]\n",
        broken__yaml="pools: [",
    ) == [
        "broken.yaml:2:1: expected YAML, found a syntax error: did not find expected node content",
        "loop.yaml:1:11: include[0]: expected files that do not include each other, found m.yaml -> loop.yaml -> m.yaml",
        'm.yaml:1:11: include[0]: cannot read "missing.yaml": no such file or directory',
        "m.yaml:1:49: include[3]: expected a file or a pattern, found something else",
        'm.yaml:1:52: include[4]: expected a pattern in the last part only, found "*/x.yaml"',
    ]


def test_a_file_is_included_once(manifest: Loader) -> None:
    """Two patterns that name the same file are no circle."""
    loaded = manifest("include: [x.yaml, 'x*.yaml', './x.yaml']\n", x__yaml="pools: {a: {command: b}}\n")
    assert list(loaded.plan.pools) == ["a"]


def test_includes_are_relative_to_the_file_that_says_so(manifest: Loader, tmp_path: Path) -> None:
    """A file in a folder includes its neighbours; hidden files are not matched."""
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "a.yaml").write_text("include: [deep/b.yaml]\n")
    (folder / ".hidden.yaml").write_text("nonsense")
    (folder / "deep").mkdir()
    (folder / "deep" / "b.yaml").write_text("pools: {b: {command: x}}\n")
    assert list(manifest("include: [conf.d/*.yaml]\n").plan.pools) == ["b"]


def test_too_many_files(complaints: Complainer, tmp_path: Path) -> None:
    """The number of files is bounded."""
    folder = tmp_path / "conf.d"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number:03}.yaml").write_text("{}")
    found = complaints("include: [conf.d/*.yaml]\npools: {a: {command: x}}\n")
    assert found == ["m.yaml:1:11: include[0]: expected at most 256 files, found more"]
