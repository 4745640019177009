"""Trained models in every task: finding one, where it computes, its measured symmetry, what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from geoattn._numbers import counts_text, format_measure, metric_name, rows_of
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


def checked_device(device: str | torch.device | None) -> str:
    """The device that was asked for, if this machine has it; the GPU if there is one, for None.

    Raises:
        InputError: another word, or a GPU that is not there.
    """
    if device is None:
        return default_device()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu", *(["cuda"] if count else []), *(f"cuda:{k}" for k in range(count))]
    if str(device) not in known:
        has = f"{count} GPU{'s' * (count > 1)} ({', '.join(known[2:])})" if count else "no GPU"
        raise InputError(f"--device: got {str(device)!r}, expected cpu, cuda or cuda:N; this machine has {has}.")
    return str(device)


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


def overlap_text(keys: Sequence[str], known: Mapping[str, Sequence[str]], what: str, *, rows: str = "all") -> str:
    """How many samples of a file, by their ``keys``, the model has ``known``; ``what`` names them: molecules, say.

    With ``rows`` test none of them is measured, so that nothing looks better than it is.
    """
    if "train" not in known:
        return "It is not written down what this model was trained on."
    seen = {part: set(known[part]) for part in ("train", "valid")}
    counts = {part: sum(key in of_part for key in keys) for part, of_part in seen.items()}
    text = overlap_counts(counts, len(keys), what)
    flattered = rows == "all" and counts["train"]
    return text + (" On those it looks better than it is; see --rows test." if flattered else "")


def overlap_counts(counts: Mapping[str, int], total: int, what: str) -> str:
    """The sentence of `overlap_text` from counts by part."""
    return (
        f"{counts['train']} of {total} {what} of the file are in the model's training part, {counts['valid']} in its "
        "validation part."
    )


def metrics_text(metrics: Mapping[str, Any], name: str) -> str:
    """The metrics as a table for the terminal: the model first, then its baselines."""
    entries = dict(rows_of(metrics, "test", name))
    rows = {
        row: {metric_name(metric): format_measure(entry) for metric, entry in measures.items()}
        for row, measures in entries.items()
    }
    return pd.DataFrame(rows).T.to_string() + f"\n{counts_text(entries)}; in brackets the 95 % interval"
