"""Run every benchmark: `python -m tests.benchmarks`. The exit code is 1 if a target was missed.

Into `build`: every sample (`bench.json`, `bench-core.json`), the tables (`bench.md`), the pictures (`plots`).
The comparison with other supervisors takes hours; with `--resume` it goes on where it was cut, and alone it
is `python -m tests.benchmarks.compare`, whose options are understood here too.
"""

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.bench_core import WRITTEN
from tests.benchmarks.draw import draw

PARTS = ("bench_core", "bench_wishes", "bench_hold", "bench_lines", "bench_loop", "bench_scrape", "compare")


def main() -> int:
    """One part after the other, and the pictures of what came of them."""
    worst = 0
    for number, part in enumerate(PARTS, 1):
        print(f"\n{number} of {len(PARTS)}: {part}", file=sys.stderr, flush=True)
        options = sys.argv[1:] if part == "compare" else []
        # A process of its own: what one leaves in memory is in no number of another, and if one fails the
        # hours of the others are not lost.
        command = [sys.executable, "-m", f"tests.benchmarks.{part}", *options]
        worst = max(worst, abs(subprocess.run(command, check=False).returncode))
    written = [path for path in (Path("build/bench.json"), WRITTEN) if path.exists()]
    for path in draw(written, Path("build/plots")):
        print(path)
    return min(worst, 1)


if __name__ == "__main__":
    sys.exit(main())
