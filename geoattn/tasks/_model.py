"""Trained models in every task: finding one, where it computes, its measured symmetry, what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from geoattn.errors import InputError
from geoattn.hub import Pretrained, from_pretrained
from geoattn.testing import TOLERANCE

SYMMETRY_TOLERANCE = {str(dtype).removeprefix("torch."): value for dtype, value in TOLERANCE.items()}


def load_model(model: str | Path, task: str) -> Pretrained:
    """A model of a task from a model folder, a run folder, or by the name of a shipped one.

    Raises:
        InputError: there is none, it is broken, or it is a model of another task.
    """
    path = Path(model)
    loaded = from_pretrained(path / "model" if (path / "model" / "config.json").is_file() else model)
    if loaded.task != task:
        raise InputError(f"--model: {model} is a model for {loaded.task}. Use: geoattn {loaded.task} ...")
    return loaded


def default_device() -> str:
    """The GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass
class Symmetry:
    """The symmetry that was measured on a trained model.

    Attributes:
        errors: dtype -> largest relative error over random transformations.
        text: what the prediction must not depend on.
    """

    errors: dict[str, float]
    text: str


def split_record(
    split: Mapping[str, Sequence[int]], ids: Sequence[str], keys: Sequence[str], spec: str, seed: int
) -> dict[str, Any]:
    """``split.json``: ids under train, valid and test (which ``--data.split file:`` reads), and the samples' keys."""
    return {
        **{part: [ids[row] for row in rows] for part, rows in split.items()},
        "keys": {part: [keys[row] for row in rows] for part, rows in split.items()},
        "split": spec,
        "split_seed": seed,
    }
