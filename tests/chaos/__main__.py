"""`make chaos`: a storm of ten minutes by default; the seed is printed first, and again with a failure."""

import argparse
import secrets
import signal
import sys

from tests.chaos.pools import instances
from tests.chaos.storm import Storm


def main() -> int:
    """Run one storm; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="which storm (default: one that nobody has seen)")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the records of a storm without findings")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else secrets.randbelow(10**9)
    print(f"seed {seed}: {options.seconds:g} s of storm over {len(instances())} instances", flush=True)
    # However it is asked to end, its daemon and everybody else of the storm go with it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(130))
    storm = Storm(seed, options.seconds, lambda text: print(text, flush=True))
    findings = storm.run()
    for finding in findings[:20]:
        print(f"\n{finding}")
    if findings:
        print(f"\n{len(findings)} findings. The records are in {storm.root}")
        print(f"Again: make chaos SEED={seed} SECONDS={options.seconds:g}", flush=True)
        return 1
    print(f"no promise was broken (seed {seed})", flush=True)
    if options.keep:
        print(f"the records are in {storm.root}")
    else:
        storm.forget()
    return 0


if __name__ == "__main__":
    sys.exit(main())
