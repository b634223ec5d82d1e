"""Run every benchmark: `python -m tests.benchmarks`. The exit code is 1 if a target was missed.

Into `build`: every sample (`bench.json`, `bench-core.json`), the tables (`bench.md`), the pictures (`plots`).
The comparison with other supervisors takes hours; with `--resume` it goes on where it was cut, and alone it
is `python -m tests.benchmarks.compare`, whose options are understood here too.
"""

import sys
import traceback
from pathlib import Path

from tests.benchmarks import (
    bench_core,
    bench_lines,
    bench_loop,
    bench_scrape,
    bench_wishes,
    compare,
)
from tests.benchmarks.draw import draw

PARTS = (bench_core, bench_wishes, bench_lines, bench_loop, bench_scrape, compare)


def main() -> int:
    """One part after the other, and the pictures of what came of them."""
    worst = 0
    for number, part in enumerate(PARTS, 1):
        print(f"\n{number} of {len(PARTS)}: {part.__name__.rpartition('.')[2]}", file=sys.stderr, flush=True)
        try:
            worst = max(worst, part.main())
        except Exception:  # noqa: BLE001 - hours of other parts are not lost for one
            traceback.print_exc()
            worst = 1
    written = [path for path in (Path("build/bench.json"), bench_core.WRITTEN) if path.exists()]
    for path in draw(written, Path("build/plots")):
        print(path)
    return worst


if __name__ == "__main__":
    sys.exit(main())
