"""Make scenes of spheres and boxes on a chequered ground, seen by posed cameras, as one file.

    python benchmarks/multiview_scenes.py scenes32.npz --scenes 1500

Scene k depends on the seed and k alone, so a longer file begins like a shorter one. About a minute per 1,000 scenes of
6 views of 32 x 32 pixels. Read by ``geoattn multiview fit --data scenes32.npz --recipe multiview-scenes``.
"""

import argparse
from pathlib import Path

from geoattn.datasets.multiview_arrays import write_npz
from geoattn.domains.multiview.scenes import make_scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=int, default=1500)
    parser.add_argument("--views", type=int, default=6)
    parser.add_argument("--size", type=int, default=32, help="height and width in pixels, a multiple of 4")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.out.exists() or options.out.suffix != ".npz":
        parser.error(f"{options.out} must be an .npz file that does not exist yet")
    scenes = make_scenes(options.scenes, options.views, options.size, options.seed)
    write_npz(options.out, scenes)
    print(f"{len(scenes)} scenes of {options.views} views of {options.size} x {options.size} pixels: {options.out}")


if __name__ == "__main__":
    main()
