"""Train a potential on energies with forces, measure it, and run molecular dynamics with it."""

import tempfile
from pathlib import Path

from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from ase.md.verlet import VelocityVerlet

from geoattn.domains.molecules import Calculator
from geoattn.tasks import molecules

folder, frames = Path(tempfile.mkdtemp()), []
for seed in range(60):  # put your own extended XYZ in the place of these frames
    frames.append(bulk("Cu", cubic=True))
    frames[-1].rattle(0.05, seed=seed)
    frames[-1].calc = EMT()
    frames[-1].get_forces()
write(folder / "copper.xyz", frames)

data = {"task": "forces", "cutoff": 4.0, "batch_size": 4}
model = {"name": "egnn", "channels": 16, "num_layers": 2, "learning_rate": 0.01}
run = molecules.fit(folder / "copper.xyz", out=folder / "run", data=data, model=model, trainer={"max_epochs": 15})
print("force RMSE on the test part, eV/angstrom:", run.metrics["test"]["force_rmse"])

frames[0].calc = Calculator(run.folder)
VelocityVerlet(frames[0], timestep=2 * units.fs).run(20)
print("energy after 40 fs:", frames[0].get_total_energy(), "report:", run.folder / "report.html")
