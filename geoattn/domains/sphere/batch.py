"""Batches of fields in the units of a model: standardised, with marks where a value is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoattn.domains.sphere.records import FieldSample


@dataclass
class FieldBatch:
    """Fields of B samples at the same N points.

    Attributes:
        inputs: ``[B, C, N]`` float32, standardised; a missing value is 0, the mean.
        present: ``[B, C, N]`` bool, where an input is not missing.
        targets: ``[B, Ct, N]`` float32, standardised, or int64 classes; 0 where not known.
        known: ``[B, Ct, N]`` bool, where a target counts.
    """

    inputs: Tensor
    present: Tensor
    targets: Tensor
    known: Tensor

    def to(self, device: torch.device | str) -> FieldBatch:
        """The same on another device."""
        return replace(self, **{item.name: getattr(self, item.name).to(device) for item in fields(self)})

    def __len__(self) -> int:
        return len(self.inputs)


def channel_names(preprocess: Mapping[str, Any]) -> list[str]:
    """The variable of each input channel: all states of the history, oldest first, then what does not change."""
    return [*preprocess["inputs"] * preprocess["history"], *preprocess["static"]]


def collate_fields(samples: Sequence[FieldSample], preprocess: Mapping[str, Any]) -> FieldBatch:
    """A batch of samples.

    Args:
        samples: at the same points; those without targets get none that count.
        preprocess: of the data module: ``inputs``, ``static``, ``history``, ``targets`` and ``statistics``.
    """
    inputs = _standard(np.stack([sample.inputs for sample in samples]), channel_names(preprocess), preprocess)
    present = np.isfinite(inputs)
    shape = (len(preprocess["targets"]), inputs.shape[2])
    classes = preprocess["task"] == "segmentation"
    empty = np.full(shape, -1, dtype=np.int64) if classes else np.full(shape, np.nan, dtype=np.float32)
    targets = np.stack([empty if sample.targets is None else sample.targets for sample in samples])
    known = np.stack([np.zeros(shape, bool) if sample.targets is None else sample.known for sample in samples])
    if not classes:
        targets = _standard(targets, preprocess["targets"], preprocess)
    return FieldBatch(
        torch.from_numpy(np.where(present, inputs, np.float32(0))),
        torch.from_numpy(present),
        torch.from_numpy(np.where(known, targets, targets.dtype.type(0))),
        torch.from_numpy(known),
    )


def _standard(values: np.ndarray, names: Sequence[str], preprocess: Mapping[str, Any]) -> np.ndarray:
    """``[B, C, N]`` of the same names as ``values``, each less its mean and over its standard deviation."""
    found = [preprocess["statistics"][name] for name in names]
    mean, std = (np.array([one[key] for one in found])[:, None] for key in ("mean", "std"))
    return ((values - mean) / std).astype(np.float32)
