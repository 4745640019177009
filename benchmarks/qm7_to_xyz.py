"""Write QM7 (``qm7_dev.npz``) as extended XYZ with ``id``, ``E_pbe0`` (kcal/mol) and ``fold`` in each frame's info.

python benchmarks/qm7_to_xyz.py ../shared/data/molecules/qm7_dev.npz qm7.xyz
"""

import sys

import numpy as np
from ase import Atoms
from ase.io import write


def main(source: str, target: str) -> None:
    """Read the arrays of ``source`` and write one frame per molecule to ``target``."""
    data = np.load(source)
    ends = np.cumsum(data["n_atoms"])
    frames = []
    for i, (start, end) in enumerate(zip(ends - data["n_atoms"], ends, strict=True)):
        info = {"id": int(data["id"][i]), "E_pbe0": float(data["E_pbe0"][i]), "fold": int(data["fold"][i])}
        frames.append(Atoms(data["Z"][start:end], data["R"][start:end], info=info))
    write(target, frames, format="extxyz")
    print(f"{len(frames)} molecules written to {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
