"""Train on simulated charged particles, measure, and predict new ones: the whole task from Python."""

import tempfile
from pathlib import Path

import numpy as np

from geoattn.domains.dynamics.protocols import nbody_arrays
from geoattn.tasks import dynamics

folder = Path(tempfile.mkdtemp())
np.savez(folder / "particles.npz", **nbody_arrays("se3", sizes=(100, 20, 20)))  # put your own file in its place

run = dynamics.fit(
    folder / "particles.npz",
    out=folder / "run",
    model={"name": "egnn", "hidden_channels": 16, "num_layers": 2, "learning_rate": 0.005},
    trainer={"max_epochs": 15},
)

print("MSE on the test part:", run.metrics["test"]["mse"])
print("straight lines:", run.metrics["baselines"]["test"]["linear"]["mse"])
new = nbody_arrays("se3", sizes=(1, 1, 3), seed=1)
later, _ = dynamics.predict(run.folder, new["test_loc0"], new["test_vel0"], new["test_charge"])
print("first body of each system, later:", later[:, 0])
print("report:", run.folder / "report.html")
