"""How near predicted images are to the true ones: PSNR and SSIM per view, with 95 % intervals over scenes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from geoattn.domains.metrics import Entry, resampled
from geoattn.domains.multiview.batch import Trial
from geoattn.errors import ShapeError

LARGEST_PSNR = 100.0
"""Decibels given to an image without any error, whose PSNR is infinite."""
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def evaluate_images(
    y: np.ndarray,
    prediction: np.ndarray,
    groups: Sequence[Hashable],
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Entry]:
    """Means over views of ``psnr`` (decibels), ``ssim`` and ``mse``.

    Args:
        y, prediction: ``[N, H, W, 3]`` in 0..1; predictions outside are cut off.
        groups: N values; views of one group (a scene) are drawn together in the resamplings.
        num_bootstrap: resamplings of whole groups.
        seed: of the resampling.

    Returns:
        Per metric ``value``, ``ci95`` and ``n``, the number of groups; where a metric is not defined ``value`` and
        ``ci95`` are None and ``reason`` says why.

    Example:
        >>> y = np.full((2, 16, 16, 3), 0.5)
        >>> found = evaluate_images(y, y + 0.1, ["a", "b"])
        >>> round(found["psnr"]["value"], 6), found["psnr"]["n"]
        (20.0, 2)
    """
    y, prediction = _checked(y, prediction)
    if len(groups) != len(y):
        raise ShapeError("groups", f"{len(groups)} values", f"{len(y)}, one for each image")
    number = {group: k for k, group in enumerate(dict.fromkeys(groups))}
    rows = np.array([number[group] for group in groups], dtype=int)
    if not len(y):
        return {name: _undefined(0, "no image") for name in ("psnr", "ssim", "mse")}
    if np.isnan(prediction).any():
        return {name: _undefined(len(number), "a prediction is NaN") for name in ("psnr", "ssim", "mse")}
    weights = resampled(np.random.default_rng(seed), num_bootstrap, len(number))
    counts = np.bincount(rows)

    def entry(values: np.ndarray) -> Entry:
        drawn = weights @ np.bincount(rows, values) / (weights @ counts)
        interval = [float(bound) for bound in np.quantile(drawn, [0.025, 0.975])] if num_bootstrap else None
        return {"value": float(values.mean()), "ci95": interval, "n": len(number)}

    small = min(y.shape[1:3]) < WINDOW
    return {
        "psnr": entry(psnr(y, prediction)),
        "ssim": _undefined(len(number), f"images below {WINDOW} pixels") if small else entry(ssim(y, prediction)),
        "mse": entry(_mse(y, prediction)),
    }


def scene_groups(trials: Sequence[Trial]) -> list[str]:
    """What `evaluate_images` resamples: scenes, or the views that are asked for if there is one scene alone."""
    if len({trial.scene.id for trial in trials}) > 1:
        return [trial.scene.id for trial in trials]
    return [trial.scene.views[trial.target] for trial in trials]


def psnr(y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """``[N]`` peak signal-to-noise ratio of images ``[N, H, W, 3]`` in 0..1: ``-10 log10(mse)``, at most 100."""
    y, prediction = _checked(y, prediction)
    return -10 * np.log10(np.maximum(_mse(y, prediction), 10 ** (-LARGEST_PSNR / 10)))


def ssim(y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """``[N]`` structural similarity of images ``[N, H, W, 3]`` in 0..1, H and W at least 11.

    As Wang et al. (2004) define it: Gaussian windows of 11 pixels with sigma 1.5 that lie inside the image, constants
    0.01 and 0.03, population variances; mean over windows and colours.

    Raises:
        ShapeError: images are smaller than a window.
    """
    y, prediction = _checked(y, prediction)
    if min(y.shape[1:3]) < WINDOW:
        raise ShapeError("y", f"images of {y.shape[1:3]} pixels", f"at least {WINDOW} x {WINDOW}")
    along = torch.exp(-((torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    along = along / along.sum()

    def mean(images: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(images, along[None, None, :, None]), along[None, None, None, :])

    found = []
    for a, b in zip(y, prediction, strict=True):
        p, q = (torch.from_numpy(image).movedim(-1, 0)[:, None] for image in (a, b))
        mean_p, mean_q = mean(p), mean(q)
        var_p, var_q, cov = mean(p * p) - mean_p**2, mean(q * q) - mean_q**2, mean(p * q) - mean_p * mean_q
        upper = (2 * mean_p * mean_q + C1) * (2 * cov + C2)
        found.append(float((upper / ((mean_p**2 + mean_q**2 + C1) * (var_p + var_q + C2))).mean()))
    return np.array(found)


def _mse(y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    return ((y - prediction) ** 2).reshape(len(y), -1).mean(axis=1)


def _checked(y: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, prediction = np.asarray(y, dtype=np.float64), np.clip(np.asarray(prediction, dtype=np.float64), 0, 1)
    if y.ndim != 4 or y.shape[-1] != 3 or y.shape != prediction.shape:
        raise ShapeError("prediction", f"shape {prediction.shape}", f"[N, H, W, 3] as y, which has shape {y.shape}")
    return y, prediction


def _undefined(count: int, reason: str) -> Entry:
    return {"value": None, "ci95": None, "n": count, "reason": reason}
