"""Trajectories of the shallow-water equations on the rotating sphere, as a file for ``geoattn sphere``.

    python benchmarks/shallow_water_to_npz.py states.npz --trajectories 300 --steps 24 --nlat 32 --nlon 64

The states are made by the package's own solver (geoattn.domains.sphere.shallow_water) on a Gauss-Legendre grid.
"""

from __future__ import annotations

import argparse
import time

from geoattn.domains.sphere.demo import write_states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help=".npz file to write")
    parser.add_argument("--trajectories", type=int, default=300)
    parser.add_argument("--steps", type=int, default=24, help="states after the first of each trajectory")
    parser.add_argument("--nlat", type=int, default=32)
    parser.add_argument("--nlon", type=int, default=64)
    parser.add_argument("--interval", type=float, default=1800.0, help="seconds between two states")
    parser.add_argument("--seed", type=int, default=0, help="of the first states")
    options = parser.parse_args()
    began = time.monotonic()
    write_states(
        options.out,
        options.trajectories,
        options.steps,
        interval=options.interval,
        nlat=options.nlat,
        nlon=options.nlon,
        seed=options.seed,
    )
    print(f"{options.out}: {options.trajectories} trajectories in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
