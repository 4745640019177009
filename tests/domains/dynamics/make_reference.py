"""Cut ``reference.npz`` out of a file of runs by the published algorithm (NumPy's legacy generator, float64).

    python tests/domains/dynamics/make_reference.py generator_reference.npz

The first two runs of the charged set with seed 43 and of the springs with seed 42: initial state, frames 0, 9 and 30.
"""

import sys
from pathlib import Path

import numpy as np

RUNS, FRAMES = 2, [0, 9, 30]

if __name__ == "__main__":
    source = np.load(sys.argv[1])
    kept = {}
    for setting, short in (("small_seed43", "charged"), ("springs_seed42", "springs")):
        for key in ("init_loc", "init_vel", "charge", "edge"):
            if f"{setting}_{key}" in source:
                kept[f"{short}_{key}"] = source[f"{setting}_{key}"][:RUNS]
        for key in ("loc", "vel"):
            kept[f"{short}_{key}"] = source[f"{setting}_{key}"][:RUNS, FRAMES]
    np.savez_compressed(Path(__file__).with_name("reference.npz"), **kept)
