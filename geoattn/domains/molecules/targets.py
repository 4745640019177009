"""Between targets in the user's units and the normalised values that a model is trained on."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from geoattn.domains.molecules.elements import NUM_ELEMENTS
from geoattn.errors import InputError, ShapeError

Kind = Literal["regression", "energy", "classification"]


def composition(z: Tensor, batch: Tensor | None = None, num_graphs: int | None = None) -> Tensor:
    """``[B, 119]`` float64: how many atoms of each atomic number (the column) each graph has.

    Args:
        z: ``[N]`` atomic numbers.
        batch: ``[N]`` the graph of each atom; all one graph if None.
        num_graphs: B; needed when the last graphs may be empty.

    Example:
        >>> water = composition(torch.tensor([8, 1, 1]))
        >>> water[0, [1, 8]].tolist()
        [2.0, 1.0]
    """
    batch = torch.zeros_like(z) if batch is None else batch
    if num_graphs is None:
        num_graphs = int(batch.max()) + 1 if batch.numel() else 1
    flat = torch.bincount(batch * NUM_ELEMENTS + z, minlength=num_graphs * NUM_ELEMENTS)
    return flat.view(num_graphs, NUM_ELEMENTS).double()


class TargetTransform:
    r"""Normalise targets and take the normalisation back, one column per target, gaps (NaN) kept.

    - ``regression``: :math:`(y - \mu) / \sigma` with mean and standard deviation of the training rows.
    - ``energy``: :math:`(y - \sum_a \epsilon_{z_a}) / \sigma`. The reference energy :math:`\epsilon_z` of each element
      is fitted by least squares to the training compositions, and :math:`\sigma` is the root mean square of what is
      left. No constant is subtracted, so the energy of two molecules far apart stays the sum of theirs. Where the
      compositions do not determine the references (every molecule has the same formula, say) the solution of least
      norm is taken; an element that no training molecule has gets 0.
    - ``classification``: nothing; the model's output is a logit.

    A constant target has :math:`\sigma = 1`. Everything is computed in float64: total energies need it.

    Attributes:
        kind: ``"regression"``, ``"energy"`` or ``"classification"``.
        mean, std: T numbers each.
        reference: per element (atomic number) T reference energies, or None.
    """

    def __init__(
        self,
        mean: list[float],
        std: list[float],
        reference: dict[int, list[float]] | None = None,
        kind: Kind = "regression",
    ) -> None:
        self.kind: Kind = kind
        self.mean, self.std, self.reference = list(mean), list(std), reference

    @classmethod
    def fit(cls, y: Tensor, compositions: Tensor | None = None, kind: Kind = "regression") -> TargetTransform:
        """Fit to training targets ``y [B, T]`` (NaN = gap) and, for energies, ``compositions [B, 119]``."""
        if y.ndim != 2:
            raise ShapeError("y", f"shape {tuple(y.shape)}", "[B, T]", "Use y[:, None] for one target.")
        y = y.double()
        num_targets = y.shape[1]
        if kind == "classification":
            return cls([0.0] * num_targets, [1.0] * num_targets, kind=kind)
        if kind == "regression":
            mean = torch.nan_to_num(torch.nanmean(y, dim=0))
            return cls(mean.tolist(), _root_mean_square(y - mean).tolist(), kind=kind)
        if kind != "energy":
            raise InputError(f"kind: got {kind!r}, expected 'regression', 'energy' or 'classification'.")
        if compositions is None or len(compositions) != len(y):
            got = "None" if compositions is None else f"{len(compositions)} rows"
            raise ShapeError("compositions", got, f"[{len(y)}, {NUM_ELEMENTS}], one row per row of y")
        reference = torch.stack([_fit_reference(compositions, y[:, t]) for t in range(num_targets)], dim=1)
        rest = y - compositions.double() @ reference
        present = torch.nonzero(compositions.sum(dim=0)).flatten().tolist()
        table = {int(z): reference[z].tolist() for z in present}
        return cls([0.0] * num_targets, _root_mean_square(rest).tolist(), table, kind)

    def normalize(self, y: Tensor, compositions: Tensor | None = None) -> Tensor:
        """``y [B, T]`` in the user's units to normalised values of the default float type."""
        offset = self._offset(y, compositions)
        return ((y.double() - offset) / self._tensor(self.std, y)).to(torch.get_default_dtype())

    def denormalize(self, prediction: Tensor, compositions: Tensor | None = None) -> Tensor:
        """Normalised ``[B, T]`` to the user's units, in float64."""
        return prediction.double() * self._tensor(self.std, prediction) + self._offset(prediction, compositions)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        reference = None if self.reference is None else {str(z): row for z, row in self.reference.items()}
        return {"kind": self.kind, "mean": self.mean, "std": self.std, "reference": reference}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TargetTransform:
        """The inverse of `to_dict`."""
        reference = values.get("reference")
        if reference is not None:
            reference = {int(z): [float(x) for x in row] for z, row in reference.items()}
        return cls(values["mean"], values["std"], reference, values["kind"])

    def _tensor(self, values: list[float], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=like.device)

    def _offset(self, like: Tensor, compositions: Tensor | None) -> Tensor:
        """``[T]`` or ``[B, T]``: what is subtracted from a target."""
        mean = self._tensor(self.mean, like)
        if self.reference is None:
            return mean
        if compositions is None:
            raise ShapeError("compositions", "None", f"[B, {NUM_ELEMENTS}] for targets of kind 'energy'")
        table = torch.zeros(NUM_ELEMENTS, len(self.mean), dtype=torch.float64)
        for z, row in self.reference.items():
            table[z] = torch.tensor(row, dtype=torch.float64)
        return mean + compositions.to(like.device).double() @ table.to(like.device)


def _root_mean_square(rest: Tensor) -> Tensor:
    """``[T]``; 1 where it would be 0 or where a column has no value."""
    scale = torch.nanmean(rest.square(), dim=0).sqrt()
    return torch.where(torch.isfinite(scale) & (scale > 1e-12), scale, torch.ones_like(scale))


def _fit_reference(compositions: Tensor, y: Tensor) -> Tensor:
    """``[119]`` least-squares contribution of each element to ``y [B]``; 0 for an element that is absent."""
    reference = torch.zeros(NUM_ELEMENTS, dtype=torch.float64)
    known = ~torch.isnan(y)
    counts = compositions[known].double()
    present = torch.nonzero(counts.sum(dim=0)).flatten()
    if len(present):
        # gelsd: singular values, so that compositions of deficient rank are solved with least norm
        solution = torch.linalg.lstsq(counts[:, present], y[known, None], driver="gelsd").solution
        reference[present] = solution[:, 0]
    return reference
