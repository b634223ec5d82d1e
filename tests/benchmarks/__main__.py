"""Run every benchmark: `python -m tests.benchmarks`. The exit code is 1 if a target was missed.

The comparison with other supervisors takes half an hour; alone it is `python -m tests.benchmarks.compare`.
"""

import sys

from tests.benchmarks import (
    bench_core,
    bench_lines,
    bench_loop,
    bench_scrape,
    bench_wishes,
    compare,
)

if __name__ == "__main__":
    parts = (bench_core, bench_wishes, bench_lines, bench_loop, bench_scrape, compare)
    sys.exit(max([part.main() for part in parts]))
