"""Molecular dynamics of ethanol with a trained potential: does it conserve energy, and how does the error scale?

    python examples/md_ethanol.py --out docs/images/md_ethanol.svg

Each run starts from the same relaxed molecule and the same velocities, at constant energy, with another time step. The
velocity Verlet integrator's total energy wobbles in proportion to the square of the step and does not drift, if and
only if the forces are the exact gradient of a smooth energy.
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from matplotlib.figure import Figure

from geoattn.domains.molecules import Calculator

STEPS = (0.25, 0.5, 1.0)  # fs


def energies(atoms: Atoms, step: float, picoseconds: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time (ps), total and kinetic energy (meV per atom) at constant energy."""
    rows: list[tuple[float, float]] = []
    dynamics = VelocityVerlet(atoms, timestep=step * units.fs)
    dynamics.attach(lambda: rows.append((atoms.get_total_energy(), atoms.get_kinetic_energy())))
    dynamics.run(round(1000 * picoseconds / step))
    total, kinetic = 1000 * np.array(rows).T / len(atoms)
    return np.arange(len(rows)) * step / 1000, total - total[0], kinetic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="molecules-ethanol", help="model folder, run folder or shipped model")
    parser.add_argument("--temperature", type=float, default=500.0, help="of the first velocities, kelvin")
    parser.add_argument("--picoseconds", type=float, default=2.0, help="length of each run")
    parser.add_argument("--out", type=Path, default=Path("md_ethanol.svg"))
    options = parser.parse_args()

    start = molecule("CH3CH2OH")
    start.calc = Calculator(options.model, dtype="float64")
    BFGS(start, logfile=None).run(fmax=0.01, steps=100)
    # twice the temperature: half of the energy goes into the bonds
    size = np.sqrt(2 * options.temperature * units.kB * start.get_masses())[:, None]
    start.set_momenta(size * np.random.default_rng(0).normal(size=(len(start), 3)))

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for step in STEPS:
        atoms = start.copy()
        atoms.calc = start.calc
        time, total, kinetic = energies(atoms, step, options.picoseconds)
        drift = np.polyfit(time, total, 1)[0]
        text = f"{step} fs: total energy sd {total.std():.4f}, drift {drift:+.4f} meV/atom/ps"
        print(f"{text}; kinetic energy sd {kinetic.std():.2f} meV/atom, {atoms.get_temperature():.0f} K at the end")
        below.plot(time, total, linewidth=0.6, label=text)
        if step == STEPS[0]:
            above.plot(time, kinetic, linewidth=0.6, color="#D55E00", label="kinetic energy")
            above.plot(time, total, linewidth=1.2, color="#1F2933", label="total energy, relative to the start")
    above.set(ylabel="meV per atom", title="Ethanol at constant energy")
    below.set(ylabel="total energy,\nmeV per atom", xlabel="time (ps)")
    for axes in (above, below):
        axes.legend(loc="upper right", fontsize=8)
        axes.grid(color="#E4E7EB")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out)


if __name__ == "__main__":
    main()
