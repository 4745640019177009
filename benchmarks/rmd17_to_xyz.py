"""Trajectories with forces from npz to extended XYZ, with the split in the info key ``split``.

    python benchmarks/rmd17_to_xyz.py rmd17_ethanol_train.npz rmd17_ethanol_test_a.npz --out ethanol.xyz
    python benchmarks/rmd17_to_xyz.py acac_train_300K.npz acac_test_300K.npz --valid 50 --out acac.xyz

The arrays are ``Z [N]`` or ``[F, N]``, ``R`` and ``F [F, N, 3]``, ``E [F]``, in angstrom and eV. Of the first file the
last ``--valid`` frames are for validation and the others for training, in the order of the file; the second file is the
test part. ``id`` is the name of the file and the number of the frame, or its ``frame`` in the original trajectory.
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write


def frames(path: Path, split: np.ndarray | str) -> list[Atoms]:
    """The frames of one npz file; ``split`` names the part of each, or of all."""
    data = np.load(path)
    count = len(data["E"])
    numbers = np.broadcast_to(data["Z"], data["R"].shape[:2])
    index = data["frame"] if "frame" in data else np.arange(count)
    parts = np.broadcast_to(split, (count,))
    result = []
    for k in range(count):
        atoms = Atoms(numbers[k], data["R"][k].astype(float))
        atoms.info = {"id": f"{path.stem}-{int(index[k])}", "split": str(parts[k])}
        energy, forces = float(data["E"][k]), data["F"][k].astype(float)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        result.append(atoms)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--valid", type=int, default=50, help="validation frames, from the end of the first file")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    count = len(np.load(options.train)["E"])
    if not 0 < options.valid < count:
        parser.error(f"--valid: got {options.valid}, expected 1 to {count - 1}")
    split = np.where(np.arange(count) < count - options.valid, "train", "valid")
    written = [*frames(options.train, split), *frames(options.test, "test")]
    write(options.out, written, format="extxyz")
    print(f"{options.out}: {count - options.valid} train, {options.valid} valid, {len(written) - count} test")


if __name__ == "__main__":
    main()
