"""Metrics of energies, forces and stress, with 95 % intervals over structures; and the trivial baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from geoattn.domains.metrics import resampled

MILLI = 1000.0
"""Metrics are stored in eV and eV/angstrom; people read meV and meV/angstrom."""


@dataclass
class Labels:
    """Energies, forces and stress of S structures with N atoms in all: true, or predicted.

    Attributes:
        energy: ``[S]`` eV.
        forces: ``[N, 3]`` eV/angstrom, structure after structure.
        stress: ``[S, 3, 3]`` eV/cubic angstrom, NaN where there is none; or None.
        num_atoms: ``[S]``.
    """

    energy: np.ndarray
    forces: np.ndarray
    stress: np.ndarray | None
    num_atoms: np.ndarray


def evaluate_forces(
    true: Labels, predicted: Labels, *, num_bootstrap: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Errors of predictions, in eV and eV/angstrom.

    Args:
        true, predicted: of the same structures.
        num_bootstrap: resamplings for the intervals; a structure is drawn with all its atoms.
        seed: of the resampling.

    Returns:
        ``energy_mae``, ``energy_mae_per_atom``, ``energy_rmse`` over structures; ``force_mae`` and ``force_rmse`` over
        the components of the forces; ``stress_mae`` over the components of the known stresses, if there are any. Each
        is ``{"value", "ci95", "n"}``; n counts structures, or components.

    Example:
        >>> true = Labels(np.array([1.0, 2.0]), np.zeros((3, 3)), None, np.array([1, 2]))
        >>> shifted = Labels(true.energy + 0.5, true.forces + 0.1, None, true.num_atoms)
        >>> metrics = evaluate_forces(true, shifted)
        >>> metrics["energy_mae"]["value"], round(metrics["force_mae"]["value"], 6), metrics["force_mae"]["n"]
        (0.5, 0.1, 9)
    """
    energy, one = predicted.energy - true.energy, np.ones(len(true.energy))
    force, components = predicted.forces - true.forces, 3.0 * true.num_atoms
    sums = {
        "energy_mae": (np.abs(energy), one),
        "force_mae": (_per_structure(np.abs(force).sum(axis=1), true.num_atoms), components),
        "energy_mae_per_atom": (np.abs(energy) / true.num_atoms, one),
        "energy_rmse": (energy**2, one),
        "force_rmse": (_per_structure((force**2).sum(axis=1), true.num_atoms), components),
    }
    if true.stress is not None and predicted.stress is not None:
        stress = predicted.stress - true.stress
        known = np.isfinite(stress).all(axis=(1, 2))
        if known.any():
            total = np.where(known, np.abs(np.where(known[:, None, None], stress, 0.0)).sum(axis=(1, 2)), 0.0)
            sums["stress_mae"] = (total, 9.0 * known)
    weights = resampled(np.random.default_rng(seed), num_bootstrap, len(energy))
    return {name: _entry(name, *pair, weights) for name, pair in sums.items()}


def constant_baseline(
    num_atoms: np.ndarray, elements: np.ndarray, references: Mapping[int, float], stress: bool
) -> Labels:
    """Reference energies alone and no force: what a potential must beat.

    Args:
        num_atoms: ``[S]``.
        elements: ``[N]`` atomic numbers, structure after structure.
        references: element -> eV, fitted to the training part by least squares.
        stress: whether to predict a stress, of zero.
    """
    atomic = np.array([references.get(int(z), 0.0) for z in elements])
    zero = np.zeros((len(num_atoms), 3, 3)) if stress else None
    return Labels(_per_structure(atomic, num_atoms), np.zeros((len(elements), 3)), zero, num_atoms)


def in_milli(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `evaluate_forces` in meV, meV/angstrom and meV/cubic angstrom, for people."""
    return {
        name: {**entry, "value": entry["value"] * MILLI, "ci95": [bound * MILLI for bound in entry["ci95"]]}
        for name, entry in metrics.items()
    }


def _per_structure(values: np.ndarray, num_atoms: np.ndarray) -> np.ndarray:
    """Sums ``[S]`` of per-atom values ``[N]``."""
    structure = np.repeat(np.arange(len(num_atoms)), num_atoms)
    return np.bincount(structure, weights=values, minlength=len(num_atoms))


def _entry(name: str, total: np.ndarray, count: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.r_[total.sum() / count.sum(), (weights @ total) / (weights @ count)]
    if name.endswith("rmse"):
        values = np.sqrt(values)
    drawn = values[1:][np.isfinite(values[1:])]
    interval = [float(bound) for bound in np.quantile(drawn, [0.025, 0.975])]
    return {"value": float(values[0]), "ci95": interval, "n": int(count.sum())}
