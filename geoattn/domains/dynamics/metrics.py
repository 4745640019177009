"""Errors of predicted positions and velocities, with 95 % intervals over systems."""

from __future__ import annotations

import numpy as np

from geoattn.domains.metrics import Entry, resampled
from geoattn.errors import ShapeError

_BOOTSTRAP_AT_ONCE = 100


def evaluate_positions(
    y: np.ndarray,
    prediction: np.ndarray,
    sizes: np.ndarray,
    *,
    prefix: str = "",
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Entry]:
    r"""Errors of predicted vectors, one per body.

    - ``mse``: :math:`\frac{1}{N n} \sum_{i,c} (\hat x_{ic} - x_{ic})^2`, mean over bodies *and* coordinates, as the
      published tables have it; ``rmse`` is its root.
    - ``median_system_mse``: the median over systems of the system's own mse. Close encounters make the error
      heavy-tailed, so a few systems decide the mean; this is what happens to a typical one.
    - ``median_coordinate_se``: the median over bodies and coordinates of the squared error.

    Args:
        y, prediction: ``[N, n]`` true and predicted.
        sizes: ``[S]`` bodies of each system.
        prefix: before the names, such as ``"velocity_"``.
        num_bootstrap: resamplings of whole systems, for the intervals.
        seed: of the resampling.

    Returns:
        Per metric ``value``, ``ci95`` and ``n``, the number of systems.

    Example:
        >>> found = evaluate_positions(np.zeros((4, 3)), np.full((4, 3), 0.5), np.array([2, 2]))
        >>> found["mse"]["value"], found["median_system_mse"]["value"], found["mse"]["n"]
        (0.25, 0.25, 2)
    """
    y, prediction = np.asarray(y, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if y.shape != prediction.shape or y.ndim != 2 or len(y) != sizes.sum():
        raise ShapeError("prediction", f"shape {prediction.shape}", f"that of y, {y.shape}, with {sizes.sum()} rows")
    sizes = sizes[sizes > 0]
    squares = (y - prediction) ** 2
    if not len(sizes):
        names = ("mse", "rmse", "median_system_mse", "median_coordinate_se")
        return {prefix + name: {"value": None, "ci95": None, "n": 0, "reason": "no system"} for name in names}
    if np.isnan(squares).any():
        raise ShapeError("prediction", "NaN", "numbers")
    totals = np.add.reduceat(squares.sum(axis=1), np.cumsum(sizes) - sizes)
    each, dim = totals / (sizes * y.shape[1]), y.shape[1]
    values = np.array([totals.sum() / (sizes.sum() * dim), np.median(each), np.median(squares)])
    replicates = [
        np.stack(
            [
                counts @ totals / (counts @ sizes * dim),
                _weighted_median(each, counts),
                _weighted_median(squares.ravel(), np.repeat(counts, sizes * dim, axis=1)),
            ]
        )
        for counts in _resamplings(len(sizes), num_bootstrap, seed)
    ]
    drawn = np.concatenate(replicates, axis=1) if replicates else np.empty((3, 0))

    def entry(value: float, draws: np.ndarray) -> Entry:
        interval = [float(bound) for bound in np.quantile(draws, [0.025, 0.975])] if draws.size else None
        return {"value": float(value), "ci95": interval, "n": len(sizes)}

    return {
        f"{prefix}mse": entry(values[0], drawn[0]),
        f"{prefix}rmse": entry(np.sqrt(values[0]), np.sqrt(drawn[0])),
        f"{prefix}median_system_mse": entry(values[1], drawn[1]),
        f"{prefix}median_coordinate_se": entry(values[2], drawn[2]),
    }


def system_errors(y: np.ndarray, prediction: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """``[S]`` the mean squared error of each system, over its bodies and coordinates; NaN for one without bodies."""
    system = np.repeat(np.arange(len(sizes)), sizes)
    totals = np.bincount(system, ((y - prediction) ** 2).mean(axis=1), minlength=len(sizes))
    with np.errstate(invalid="ignore"):
        return totals / np.where(sizes > 0, sizes, np.nan)


def _resamplings(num_systems: int, num_bootstrap: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = [min(_BOOTSTRAP_AT_ONCE, num_bootstrap - done) for done in range(0, num_bootstrap, _BOOTSTRAP_AT_ONCE)]
    return [resampled(rng, size, num_systems) for size in sizes]


def _weighted_median(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``[R]`` the lower median of ``values [n]`` drawn ``counts [R, n]`` times each."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[:, order], axis=1)
    return values[order][(reached < reached[:, -1:] / 2).sum(axis=1)]
