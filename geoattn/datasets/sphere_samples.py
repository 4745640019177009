"""Samples of fields: states of a history beside what does not change, made when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from torch.utils.data import Dataset

from geoattn.datasets.sphere_files import FieldFile
from geoattn.domains.sphere.records import FieldSample


@dataclass(frozen=True)
class SampleSpec:
    """Where a sample stands: states ``times`` of the file, the target at ``target``, the points ``used``."""

    id: str
    times: tuple[int, ...]
    target: int | None
    used: np.ndarray


class FieldSamples(Sequence[FieldSample], Dataset[FieldSample]):
    """The samples of ``specs``, in their order.

    Args:
        source: with all variables.
        specs: of the samples.
        inputs: variables of each state of the history, oldest state first.
        static: variables that follow, which have no sample axis.
        targets: variables that are wanted.
        classes: are targets classes?
    """

    def __init__(
        self,
        source: FieldFile,
        specs: Sequence[SampleSpec],
        inputs: Sequence[str],
        static: Sequence[str],
        targets: Sequence[str],
        classes: bool = False,
    ) -> None:
        self.source, self.specs, self.classes = source, list(specs), classes
        self.inputs, self.static, self.targets = list(inputs), list(static), list(targets)

    def __len__(self) -> int:
        return len(self.specs)

    @overload
    def __getitem__(self, index: int) -> FieldSample: ...
    @overload
    def __getitem__(self, index: slice) -> FieldSamples: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        spec = self.specs[index]
        rows = [self.state(name, time) for time in spec.times for name in self.inputs]
        rows += [self.source.variables[name][0] for name in self.static]
        targets = None
        if spec.target is not None:
            targets = np.stack([self.state(name, spec.target) for name in self.targets])
            if self.classes:
                targets = np.where(np.isfinite(targets), targets, -1).astype(np.int64)
        moment = spec.times[-1]
        return FieldSample(
            spec.id, np.stack(rows), targets, spec.used, self.source.labels[moment], self.source.paths[moment]
        )

    def take(self, rows: Sequence[int]) -> FieldSamples:
        """The samples with these numbers."""
        specs = [self.specs[row] for row in rows]
        return FieldSamples(self.source, specs, self.inputs, self.static, self.targets, self.classes)

    def state(self, name: str, time: int) -> np.ndarray:
        """``[N]`` of a variable at a moment."""
        values = self.source.variables[name]
        return values[0 if len(values) == 1 else time]


def windows(
    source: FieldFile, task: Literal["forecast", "regression", "segmentation"], history: int, steps: int, targets: bool
) -> list[SampleSpec]:
    """All samples of a file: for a forecast every state that has a past and, with ``targets``, a future in its
    series.

    Without ``targets`` the last states are samples too, whose future nobody knows.
    """
    everywhere = np.ones(source.grid.num_points, dtype=bool)
    if task != "forecast":
        return [SampleSpec(label, (k,), k if targets else None, everywhere) for k, label in enumerate(source.labels)]
    specs = []
    series = source.group if source.series is None else source.series
    for number in np.unique(series):
        rows = np.flatnonzero(series == number).tolist()
        for k in range(history - 1, len(rows)):
            later = rows[k + steps] if k + steps < len(rows) else None
            if later is not None or not targets:
                specs.append(
                    SampleSpec(source.labels[rows[k]], tuple(rows[k - history + 1 : k + 1]), later, everywhere)
                )
    return specs
