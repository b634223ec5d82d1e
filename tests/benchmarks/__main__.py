"""Run every benchmark: `python -m tests.benchmarks`. The exit code is 1 if a target was missed.

The comparison with other supervisors takes half an hour; alone it is `python -m tests.benchmarks.compare`.
"""

import sys

from tests.benchmarks import bench_core, bench_loop, bench_scrape, compare

if __name__ == "__main__":
    sys.exit(max(bench_core.main(), bench_loop.main(), bench_scrape.main(), compare.main()))
