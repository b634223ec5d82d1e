"""What is wrong between pools, and with what a daemon may give them."""

# A table of sentences is read line by line, each in one piece.
# ruff: noqa: E501

from supervisor.manifest.machine import Machine
from supervisor.manifest.relations import circles
from tests.manifest.conftest import Complainer


def test_bounds(complaints: Complainer) -> None:
    """Five hundred pools and five thousand instances are the most."""
    many = "".join(f"  p{n}: {{command: x, instances: 1000}}\n" for n in range(6))
    assert complaints("pools:\n" + many) == [
        "m.yaml:1:1: pools: expected at most 5000 instances in all, found 6000"
    ]
    more = "".join(f"  p{n}: {{command: x}}\n" for n in range(501))
    assert complaints("pools:\n" + more) == ["m.yaml:502:3: pools: expected at most 500 pools, found 501"]


def test_a_circle_is_shown_as_the_shortest_one(complaints: Complainer) -> None:
    """Each knot of pools is reported once, starting with its first pool."""
    found = complaints(
        """
        pools:
          a: {command: x, depends_on: [b]}
          b: {command: x, depends_on: [c, d]}
          c: {command: x, depends_on: [e]}
          d: {command: x, depends_on: [a]}
          e: {command: x, depends_on: [a, f]}
          f: {command: x}
        """
    )
    assert found == [
        "m.yaml:2:32: pools.a.depends_on.b: expected pools that do not wait for each other, found a -> b -> d -> a"
    ]


def test_a_daemon_that_is_not_root(complaints: Complainer) -> None:
    """What only root may give is refused before anything starts."""
    somebody = Machine(65534, 65534, "testhost", {"HOME": "/tmp"}, {"NOFILE": 1024}, 0)
    text = """
        pools:
          a: {command: x, user: root}
          b: {command: x, group: root}
          c: {command: x, groups: [root]}
          d: {command: x, limits: {nofile: 4096}, nice: -5}
          e: {command: x, user: nobody}
        """
    assert complaints(text, on=somebody) == [
        "m.yaml:2:25: pools.a.user: cannot run as root: pitbossd is not root",
        "m.yaml:3:26: pools.b.group: cannot run with group root: pitbossd is not root",
        "m.yaml:4:19: pools.c.groups: cannot set supplementary groups: pitbossd is not root",
        "m.yaml:5:36: pools.d.limits.nofile: expected at most 1024 (the daemon's own limit, it is not root), found 4096",
        "m.yaml:5:49: pools.d.nice: expected at least 0 (the daemon's own, it is not root), found -5",
    ]


def test_circles_of_any_graph() -> None:
    """Every knot once, the shortest way round; a chain as long as the host has none."""
    assert list(circles({"a": ["b"], "b": [], "c": ["c"], "d": ["e"], "e": ["f", "d"], "f": ["d"]})) == [
        ["c", "c"],
        ["d", "e", "d"],
    ]
    chain = {f"p{number}": [f"p{number + 1}"] for number in range(5000)}
    assert list(circles({**chain, "p5000": []})) == []
    assert [len(circle) for circle in circles({**chain, "p5000": ["p0"]})] == [5002]
