"""Metrics of fields on the sphere, weighted by area, with 95 % bootstrap intervals.

Samples are drawn again as wholes, because neighbouring points say nearly the same. Of a single sample, blocks of the
globe 15 degrees across are drawn instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from geoattn.domains.metrics import Entry, resampled
from geoattn.domains.sphere.records import FieldSample
from geoattn.errors import ShapeError
from geoattn.geometry.sphere import SpherePoints, healpix

HIGHER_IS_BETTER = frozenset({"anomaly_correlation", "area_accuracy", "area_miou"})
_BLOCK_NSIDE = 4


def evaluate_fields(
    samples: Sequence[FieldSample],
    predicted: Sequence[np.ndarray],
    points: SpherePoints,
    *,
    scale: Sequence[float] | None = None,
    climatology: np.ndarray | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Entry]:
    """``rmse``, ``mae`` and ``bias`` averaged over targets, ``nrmse`` and ``anomaly_correlation``.

    All are ratios of sums over samples and area: ``rmse`` is the root of the mean square over both. Points that are
    missing or not used count for nothing, nor does their area.

    Args:
        samples: with targets.
        predicted: ``[Ct, N]`` of each, in the same units.
        points: with the weights.
        scale: of each target, for ``nrmse``, the mean over targets of rmse / scale; left out without it.
        climatology: ``[Ct, N]``; anomalies are differences from it, not centred again. Left out without it.
        num_bootstrap: resamplings.
        seed: of them.

    Returns:
        Per metric ``value``, ``ci95`` and ``n``, the number of values, as `geoattn.domains.metrics.evaluate` has them.

    Example:
        >>> points = healpix(1)
        >>> truth = np.zeros((1, 12), dtype=np.float32)
        >>> sample = FieldSample("a", truth, truth, np.ones(12, dtype=bool), "", "")
        >>> evaluate_fields([sample, sample], [truth + 2, truth + 2], points)["bias"]["value"]
        2.0
    """
    sums, count = _field_sums(samples, predicted, points, climatology)
    names = ["rmse", "mae", "bias"] + ["nrmse"] * (scale is not None)
    names += ["anomaly_correlation"] * (climatology is not None)
    if not count:
        return {name: _undefined("no target is known") for name in names}
    area, square, absolute, error, product, truth, said = _draw(sums, num_bootstrap, seed)  # [1 + R, Ct] each
    with np.errstate(invalid="ignore", divide="ignore"):
        rmse = np.sqrt(square / area)
        found = {"rmse": rmse, "mae": absolute / area, "bias": error / area}
        if scale is not None:
            found["nrmse"] = rmse / np.asarray(scale, dtype=np.float64)
        if climatology is not None:
            found["anomaly_correlation"] = product / np.sqrt(truth * said)
    return {name: _entry(found[name], count) for name in names}


def evaluate_variables(
    samples: Sequence[FieldSample],
    predicted: Sequence[np.ndarray],
    points: SpherePoints,
    names: Sequence[str],
    *,
    climatology: np.ndarray | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Entry]]:
    """`evaluate_fields` for each target by itself, under its name."""
    found = {}
    for t, name in enumerate(names):
        ones = [_one_target(sample, t) for sample in samples]
        mean = None if climatology is None else climatology[t : t + 1]
        chosen = [field[t : t + 1] for field in predicted]
        found[name] = evaluate_fields(ones, chosen, points, climatology=mean, num_bootstrap=num_bootstrap, seed=seed)
    return found


def evaluate_classes(
    samples: Sequence[FieldSample],
    predicted: Sequence[np.ndarray],
    points: SpherePoints,
    num_classes: int,
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Entry]:
    """``area_accuracy``: the share of the area that is right; ``area_miou``: the mean over classes of the area of the
    intersection over that of the union, of classes that occur in the truth.

    Args:
        samples: with classes as targets ``[1, N]``.
        predicted: ``[1, N]`` classes, or ``[K, N]`` scores of which the largest counts.
        points: with the weights.
        num_classes: K.
        num_bootstrap: resamplings.
        seed: of them.

    Returns:
        As `evaluate_fields`; ``n`` is the number of points, and of classes.
    """
    confusion, count = area_confusion(samples, predicted, points, num_classes)
    if not count:
        return {name: _undefined("no class is known") for name in ("area_accuracy", "area_miou")}
    tables = _draw(confusion[None], num_bootstrap, seed)[0].reshape(-1, num_classes, num_classes)
    right, true, said = np.einsum("rkk->rk", tables), tables.sum(axis=2), tables.sum(axis=1)
    there = true[0] > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        share = right.sum(axis=1) / true.sum(axis=1)
        iou = right[:, there] / (true + said - right)[:, there]  # a resampling may have no point of a class
    return {"area_accuracy": _entry(share[:, None], count), "area_miou": _entry(iou, int(there.sum()))}


def area_confusion(
    samples: Sequence[FieldSample], predicted: Sequence[np.ndarray], points: SpherePoints, num_classes: int
) -> tuple[np.ndarray, int]:
    """``[U, K * K]``: steradians of each true class (slow) said to be each class, of each sample or block; and how many
    points there are."""
    _check(samples, predicted)
    unit, num_units = _units(samples, points)
    weight, total = points.weight.numpy(), 0
    table = np.zeros((num_units, num_classes**2))
    for row, (sample, answer) in enumerate(zip(samples, predicted, strict=True)):
        assert sample.targets is not None
        said = answer.argmax(axis=0) if len(answer) > 1 else answer[0]
        known = sample.known[0]
        _check_range("samples", sample.targets[0][known], sample.id, num_classes)
        _check_range("predicted", said[known], sample.id, num_classes)
        pair = sample.targets[0][known] * num_classes + said[known].astype(np.int64)
        place = unit[known] if len(samples) == 1 else np.full(len(pair), row)
        np.add.at(table, (place, pair), weight[known])
        total += len(pair)
    return table, total


def _field_sums(
    samples: Sequence[FieldSample],
    predicted: Sequence[np.ndarray],
    points: SpherePoints,
    climatology: np.ndarray | None,
) -> tuple[np.ndarray, int]:
    """``[7, U, Ct]`` sums over area of each sample or block: see `evaluate_fields`; and how many values there are."""
    _check(samples, predicted)
    unit, num_units = _units(samples, points)
    num_targets = len(predicted[0]) if len(predicted) else 0
    sums, count = np.zeros((7, num_units, num_targets)), 0
    for row, (sample, answer) in enumerate(zip(samples, predicted, strict=True)):
        assert sample.targets is not None
        known = sample.known
        truth, said = (np.where(known, field, 0.0).astype(np.float64) for field in (sample.targets, answer))
        error = said - truth
        base = np.where(known, 0.0 if climatology is None else climatology, 0.0)
        a, b = truth - base, said - base
        area = known * points.weight.numpy()
        for k, values in enumerate((np.ones_like(error), error**2, np.abs(error), error, a * b, a * a, b * b)):
            weighted = area * values
            if len(samples) > 1:
                sums[k, row] = weighted.sum(axis=1)
            else:
                sums[k] = np.stack([np.bincount(unit, weights=one, minlength=num_units) for one in weighted], axis=1)
        count += int(known.sum())
    return sums, count


def _units(samples: Sequence[FieldSample], points: SpherePoints) -> tuple[np.ndarray, int]:
    """What is drawn again: samples, or the block of each point ``[N]`` if there is one sample alone."""
    if len(samples) != 1:
        return np.empty(0, dtype=np.int64), len(samples)
    blocks = healpix(_BLOCK_NSIDE)
    _, found = cKDTree(blocks.xyz.numpy()).query(points.xyz.numpy())
    used = np.unique(found[samples[0].known.any(axis=0)])  # blocks without any value would only dilute the draws
    rank = np.zeros(blocks.num_points, dtype=np.int64)
    rank[used] = np.arange(len(used))
    return rank[found], max(len(used), 1)


def _draw(sums: np.ndarray, num_bootstrap: int, seed: int) -> np.ndarray:
    """``[Q, 1 + R, ...]`` of ``[Q, U, ...]``: all units, then each resampling of them."""
    num_units = sums.shape[1]
    weights = np.vstack([np.ones((1, num_units)), resampled(np.random.default_rng(seed), num_bootstrap, num_units)])
    return np.einsum("ru,quk->qrk", weights, sums, optimize=True)


def _entry(values: np.ndarray, count: int) -> Entry:
    """Of ``[1 + R, Ct]``: the mean over what is defined."""
    defined = np.isfinite(values[0])
    if not defined.any():
        return {"value": None, "ci95": None, "n": count, "reason": "the fields do not vary, or a prediction is NaN"}
    replicates = values[1:, defined]
    known = np.isfinite(replicates)
    means = np.where(known, replicates, 0.0).sum(axis=1)[known.any(axis=1)] / known.sum(axis=1)[known.any(axis=1)]
    interval = [float(bound) for bound in np.quantile(means, [0.025, 0.975])] if len(means) else None
    return {"value": float(values[0, defined].mean()), "ci95": interval, "n": count}


def _one_target(sample: FieldSample, t: int) -> FieldSample:
    targets = None if sample.targets is None else sample.targets[t : t + 1]
    return FieldSample(sample.id, sample.inputs, targets, sample.used, sample.label, sample.file)


def _check_range(name: str, values: np.ndarray, sample: str, num_classes: int) -> None:
    if values.size and not (values.min() >= 0 and values.max() < num_classes):
        got = f"classes from {values.min():g} to {values.max():g} in {sample!r}"
        raise ShapeError(name, got, f"classes from 0 to {num_classes - 1}, as num_classes says")


def _check(samples: Sequence[FieldSample], predicted: Sequence[np.ndarray]) -> None:
    if len(samples) != len(predicted):
        raise ShapeError("predicted", f"{len(predicted)} fields", f"{len(samples)}, as samples")
    for sample, answer in zip(samples, predicted, strict=True):
        if sample.targets is None:
            raise ShapeError("samples", f"{sample.id!r} without targets", "samples whose targets are known")
        if answer.ndim != 2 or answer.shape[1] != sample.targets.shape[1]:
            raise ShapeError("predicted", f"shape {answer.shape} of {sample.id!r}", f"[Ct, {sample.targets.shape[1]}]")
        if sample.targets.dtype.kind == "f" and answer.shape != sample.targets.shape:
            raise ShapeError(
                "predicted", f"shape {answer.shape} of {sample.id!r}", f"{sample.targets.shape}, as targets"
            )


def _undefined(reason: str) -> Entry:
    return {"value": None, "ci95": None, "n": 0, "reason": reason}
