"""Trials as SVG text for reports: the views that are given, what is asked for, what was predicted, and the error."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from html import escape
from io import BytesIO

import numpy as np

from geoattn._optional import require
from geoattn.domains.multiview.batch import Trial
from geoattn.domains.multiview.metrics import psnr

GAP, LINE = 6, 16
FULL_ERROR = 0.5
"""Mean absolute error over the colours that is drawn as full red."""


def draw_trial(
    trial: Trial,
    prediction: np.ndarray,
    others: Mapping[str, np.ndarray] | None = None,
    width: int = 112,
) -> str:
    """One trial as an ``<svg>`` element: a row of pictures with a line of text over each.

    Args:
        trial: what was asked.
        prediction: ``[H, W, 3]`` in 0..1.
        others: more predictions, such as those of baselines, by name.
        width: of each picture, in pixels.
    """
    truth = trial.truth
    cells = [(f"given {k + 1}", trial.scene.images[view] / 255) for k, view in enumerate(trial.inputs)]
    cells += [("asked for", truth), (_label("predicted", truth, prediction), prediction)]
    cells += [("error", draw_error(truth, prediction))]
    cells += [(_label(name, truth, image), image) for name, image in (others or {}).items()]
    height = round(width * truth.shape[0] / truth.shape[1])
    shapes = []
    for k, (text, image) in enumerate(cells):
        x = k * (width + GAP)
        shapes.append(
            f"<text x='{x}' y='11' font-size='10' fill='#1f2933'>{escape(text)}</text>"
            f"<image x='{x}' y='{LINE}' width='{width}' height='{height}' preserveAspectRatio='none' "
            f"style='image-rendering:pixelated' href='{_data_uri(image)}'/>"
        )
    size = (len(cells) * (width + GAP) - GAP, height + LINE)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{size[0]}' height='{size[1]}' "
        f"viewBox='0 0 {size[0]} {size[1]}' font-family='sans-serif'>{''.join(shapes)}</svg>"
    )


def draw_error(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """``[H, W, 3]``: white where images agree, red where they are 0.5 or more apart in the mean over colours."""
    error = np.abs(truth - np.clip(prediction, 0, 1)).mean(axis=-1) / FULL_ERROR
    pale = 1 - np.clip(error, 0, 1)
    return np.stack([1 - 0.2 * (1 - pale), pale, pale], axis=-1)


def _label(name: str, truth: np.ndarray, prediction: np.ndarray) -> str:
    return f"{name}, {psnr(truth[None], prediction[None])[0]:.1f} dB"


def _data_uri(image: np.ndarray) -> str:
    pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    buffer = BytesIO()
    require("PIL.Image", "multiview").fromarray(pixels).save(buffer, format="PNG")
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"
