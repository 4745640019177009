"""Write one of the published n-body data sets of charged particles as a file for ``geoattn dynamics``.

    python benchmarks/nbody_to_npz.py egnn nbody_egnn.npz
    python benchmarks/nbody_to_npz.py se3 nbody_se3.npz --train 3000 --valid 2000 --test 2000 --seed 43

``egnn``: no walls, positions one time unit later (arXiv:2102.09844); with seed 43 these are the published systems, up
to close encounters, which amplify rounding. ``se3``: a box with reflecting walls, positions and velocities after 1,000
steps (arXiv:2006.10503). The two do not compare. 7,000 systems take about a minute on one core.
"""

import argparse

import numpy as np

from geoattn.domains.dynamics.protocols import PROTOCOLS, nbody_arrays

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("file")
    for part, size in (("train", 3000), ("valid", 2000), ("test", 2000)):
        parser.add_argument(f"--{part}", type=int, default=size, help=f"systems, {size} if left out")
    parser.add_argument("--seed", type=int, default=43)
    options = parser.parse_args()
    sizes = (options.train, options.valid, options.test)
    np.savez_compressed(options.file, **nbody_arrays(options.protocol, sizes, options.seed, legacy_rng=True))
