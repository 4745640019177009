"""RDKit's 2-D descriptors of a whole molecule, and a normalisation that outliers do not spoil."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from geoattn._optional import require

LIMIT = 5.0
"""Normalised descriptors are clipped to plus or minus this."""

_UNSTABLE = ("Ipc", "AvgIpc", "SPS")
"""Left out: Ipc grows to 1e60 with molecule size, SPS needs stereo centres that many files do not state."""


@functools.cache
def _functions() -> dict[str, Callable[[Any], float]]:
    descriptors = require("rdkit.Chem.Descriptors", "molecules")
    return {name: function for name, function in descriptors.descList if name not in _UNSTABLE}


def descriptor_names() -> list[str]:
    """The names of all descriptors of the installed RDKit, about 210, in a fixed order."""
    return sorted(_functions())


def raw_descriptors(mol: Any, names: list[str]) -> np.ndarray:
    """``[K]`` float64 descriptors of an RDKit molecule; NaN where one cannot be computed or is infinite."""
    functions = _functions()
    values = np.empty(len(names))
    for i, name in enumerate(names):
        try:
            values[i] = functions[name](mol)
        except (ValueError, ZeroDivisionError, RuntimeError):
            values[i] = np.nan
    values[~np.isfinite(values)] = np.nan
    return values


def fit_normalization(values: np.ndarray) -> tuple[list[float], list[float]]:
    """Centre and factor of each descriptor from training rows ``values [B, K]``.

    The centre is the median and the factor one over the spread: the distance between the 10 % and 90 % quantiles
    over 2.56 (a standard deviation, for a normal distribution), or the standard deviation where those quantiles
    coincide, as for counts of rare groups. A descriptor that is constant on the training rows has factor 0.
    """
    with np.errstate(invalid="ignore"):
        filled = np.where(np.isnan(values).all(axis=0), 0.0, values)
        low, center, high = np.nanquantile(filled, [0.1, 0.5, 0.9], axis=0)
        spread = (high - low) / 2.563
        spread = np.where(spread > 1e-9, spread, np.nanstd(filled, axis=0))
    factor = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-9)
    return center.tolist(), factor.tolist()


def normalize_descriptors(values: np.ndarray, center: list[float], factor: list[float]) -> np.ndarray:
    """``[..., K]`` float32: centred, scaled, clipped to ``LIMIT``; 0 where a descriptor is missing."""
    normalized = (values - np.array(center)) * np.array(factor)
    return np.nan_to_num(np.clip(normalized, -LIMIT, LIMIT), nan=0.0).astype(np.float32)
