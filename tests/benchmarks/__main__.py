"""Run every benchmark: `python -m tests.benchmarks`. The exit code is 1 if a target was missed."""

import sys

from tests.benchmarks import bench_core, bench_loop, bench_scrape

if __name__ == "__main__":
    sys.exit(max(bench_core.main(), bench_loop.main(), bench_scrape.main()))
