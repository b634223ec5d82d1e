"""What a scrape of a daemon says."""

import re

from tests.e2e.daemon import Daemon


def metric(one: Daemon, name: str) -> float:
    """The value of one series, named with its labels; 0 if it is not there."""
    answer = one.get("/metrics")
    assert answer.status_code == 200, answer.text
    found = re.search(rf"^{re.escape(name)} (\S+)$", answer.text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0
