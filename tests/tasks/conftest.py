"""Small files and small models for the tests of the tasks."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rdkit", reason="needs geoattn[molecules]")

from geoattn.domains.dynamics.protocols import nbody_arrays
from geoattn.domains.molecules.demo import make_demo_table
from geoattn.tasks import _molecules_evaluate

from .dynamics_runs import fit as fit_dynamics

SMALL_MODEL = {"hidden_channels": 16, "num_layers": 1, "num_heads": 2}
SMALL = {"model": SMALL_MODEL, "trainer": {"max_epochs": 2}, "quiet": True}
SHAPES = {"H2O": [8, 1, 1], "NH3": [7, 1, 1, 1], "CH4": [6, 1, 1, 1, 1], "HCN": [1, 6, 7]}


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """Baselines of a few trees: the forest itself is tested elsewhere."""
    baselines = partial(_molecules_evaluate.baselines_for, num_trees=5)
    monkeypatch.setattr(_molecules_evaluate, "baselines_for", baselines)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GEOATTN_CACHE", str(tmp_path / "cache"))


def write_table(path: Path, n: int = 24, **columns) -> Path:
    """``n`` demo molecules with the target ``logp``, and other columns: a list, or a value for all."""
    table = make_demo_table(n).drop(columns="tpsa")
    for name, value in columns.items():
        table[name] = value
    table.to_csv(path, index=False)
    return path


def write_xyz(path: Path, n: int = 24, seed: int = 0) -> Path:
    """``n`` shaken small molecules whose energy is a sum over elements and pairs."""
    rng = np.random.default_rng(seed)
    symbols = {1: "H", 6: "C", 7: "N", 8: "O"}
    with path.open("w") as file:
        for k in range(n):
            numbers = list(SHAPES.values())[k % len(SHAPES)]
            positions = np.cumsum(rng.normal(size=(len(numbers), 3)) * 0.2 + 0.6, axis=0)
            distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)[np.triu_indices(len(numbers), 1)]
            energy = -10.0 * sum(numbers) + np.exp(-distance).sum()
            file.write(f"{len(numbers)}\nProperties=species:S:1:pos:R:3 id=m{k} energy_ev={energy:.6f}\n")
            for z, position in zip(numbers, positions, strict=True):
                file.write(f"{symbols[z]} {position[0]:.6f} {position[1]:.6f} {position[2]:.6f}\n")
    return path


@pytest.fixture
def table(tmp_path) -> Path:
    return write_table(tmp_path / "molecules.csv")


@pytest.fixture
def structures(tmp_path) -> Path:
    return write_xyz(tmp_path / "structures.xyz")


@pytest.fixture(scope="session")
def nbody(tmp_path_factory) -> Path:
    """30 + 10 + 10 charged systems, with velocities."""
    path = tmp_path_factory.mktemp("data") / "nbody.npz"
    np.savez(path, **nbody_arrays("se3", (30, 10, 10)))
    return path


@pytest.fixture(scope="session")
def dynamics_run(nbody, tmp_path_factory):
    """Positions and velocities of moving bodies, an ensemble of two."""
    return fit_dynamics(nbody, tmp_path_factory.mktemp("run") / "run", ensemble=2, seed=5, data={"velocities": True})
