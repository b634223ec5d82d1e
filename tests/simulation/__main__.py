"""Replay one simulated host, or simulate many.

`python -m tests.simulation SEED`, or `--steps 2000000 [--from SEED] [--keep-going]`.
"""

import argparse
import sys
import time

from tests.simulation.world import Broken, World, commit


def main(arguments: list[str]) -> int:
    """Run what is asked for; 1 if a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("seed", nargs="?", type=int, default=None)
    parser.add_argument("--seed", dest="named_seed", type=int, help="the same, by name")
    parser.add_argument("--steps", type=int, help="simulate host after host until so many steps are done")
    parser.add_argument("--from", dest="first", type=int, default=1, help="the first seed of a soak")
    parser.add_argument("--keep-going", action="store_true", help="count all broken seeds of a soak")
    options = parser.parse_args(arguments)
    if options.steps is None:
        return replay(1 if options.seed is None else options.seed, options.named_seed)
    return soak(options.steps, options.first, keep_going=options.keep_going)


def replay(seed: int, named: int | None) -> int:
    """One host, and how it went."""
    world = World(seed if named is None else named)
    try:
        world.run()
    except Broken as broken:
        print(broken)
        return 1
    print(f"seed {world.seed}, commit {commit()}: {world.steps} steps, every promise kept; the last moves:")
    print("\n".join(f"  {move}" for move in world.moves))
    return 0


def soak(steps: int, seed: int, *, keep_going: bool) -> int:
    """Host after host, with progress, until the steps are used up."""
    done = broken = 0
    first, began, shown = seed, time.monotonic(), time.monotonic()
    while done < steps:
        world = World(seed)
        try:
            world.run()
        except Broken as story:
            broken += 1
            print(
                str(story) if not keep_going else f"{str(story).splitlines()[0]}  (seed {seed})", flush=True
            )
            if not keep_going:
                return 1
        done += world.steps
        seed += 1
        if time.monotonic() - shown >= 5.0 or done >= steps:
            shown = time.monotonic()
            rate = done / max(shown - began, 0.001)
            print(f"{done:>10} of {steps} steps, seeds {first} to {seed - 1}, {rate:.0f} steps/s", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
