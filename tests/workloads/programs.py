"""The queue programs under test: what must be known about each to load it, and to see that it is idle."""

import sqlite3
from contextlib import closing

from tests.workloads.harness import Program, Workload


def celery_left(workload: Workload) -> int:
    """Tasks in the list that Celery takes from, and those that nobody has acknowledged yet."""
    command = workload.server.command
    return int(command("LLEN", "celery")) + int(command("HLEN", "unacked"))


def rq_left(workload: Workload) -> int:
    """Jobs that wait, that are between two hands, and that somebody is doing."""
    command = workload.server.command
    lists = ("rq:queue:default", "rq:queue:default:intermediate")
    return sum(int(command("LLEN", key)) for key in lists) + int(command("ZCARD", "rq:wip:default"))


def dramatiq_left(workload: Workload) -> int:
    """Messages that wait or are in somebody's hands: their texts are kept until they are acknowledged."""
    return int(workload.server.command("HLEN", "dramatiq:default.msgs"))


def huey_left(workload: Workload) -> int:
    """Tasks in the queue, and those in somebody's hands."""
    with closing(sqlite3.connect(workload.ledger.with_suffix(".huey.db"), timeout=30)) as opened:
        tables = ("task", "in_hand")
        return sum(opened.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)


PROGRAMS = {
    "celery": Program("celery", instances=3, slots=2, per_second=24, left=celery_left),
    "rq": Program("rq", instances=4, slots=1, per_second=20, left=rq_left),
    "dramatiq": Program("dramatiq", instances=3, slots=2, per_second=24, left=dramatiq_left, outlive=True),
    "huey": Program("huey", instances=3, slots=2, per_second=24, left=huey_left),
}
