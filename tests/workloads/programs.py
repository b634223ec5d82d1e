"""The queue programs under test: what must be known about each to load it, and to see that it is idle."""

from tests.workloads.harness import Program, Workload


def celery_left(workload: Workload) -> int:
    """Tasks in the list that Celery takes from, and those that nobody has acknowledged yet."""
    command = workload.server.command
    return int(command("LLEN", "celery")) + int(command("HLEN", "unacked"))


PROGRAMS = [Program("celery", slots=2, per_second=24, left=celery_left)]
