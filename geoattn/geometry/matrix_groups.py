"""Groups of matrices that preserve an inner product: how far a matrix is from them, and the way back."""

from __future__ import annotations

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.geometry.orthonormalize import orthonormalize

NEWTON_STEPS = 20  # near the group each doubles the number of right digits


class MatrixGroup:
    r"""Matrices with :math:`M^\top \eta M = \eta` for a diagonal metric of ones and minus ones.

    ``rotations(n)`` is SO(n), ``orthogonal(n)`` O(n), ``lorentz()`` O(1, 3) with time first. The group acts on columns,
    ``M @ x``, and its inverse is :math:`\eta M^\top \eta`, without a solve.

    Attributes:
        metric: ``[D]`` float64, the diagonal of :math:`\eta`.
        special: whether the determinant has to be 1.

    Example:
        >>> import torch
        >>> group = MatrixGroup.lorentz()
        >>> nearly = torch.eye(4, dtype=torch.float64) + 0.1
        >>> bool(group.defect(nearly) > 0.1), bool(group.defect(group.project(nearly)) < 1e-12)
        (True, True)
    """

    def __init__(self, metric: Tensor, special: bool) -> None:
        self.metric, self.special = metric.double(), special

    @classmethod
    def rotations(cls, dim: int) -> MatrixGroup:
        """SO(dim)."""
        return cls(torch.ones(dim), special=True)

    @classmethod
    def orthogonal(cls, dim: int) -> MatrixGroup:
        """O(dim)."""
        return cls(torch.ones(dim), special=False)

    @classmethod
    def lorentz(cls, space: int = 3) -> MatrixGroup:
        """O(1, space): the Lorentz group, reversals of time and space too; coordinates (t, x, y, z)."""
        return cls(torch.tensor([1.0] + [-1.0] * space), special=False)

    @property
    def dim(self) -> int:
        """D."""
        return len(self.metric)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner products ``[..., A, B]`` of rows ``a [..., A, D]`` and ``b [..., B, D]``; invariant."""
        return (a * self._metric(a)) @ b.mT

    def inverse(self, matrix: Tensor) -> Tensor:
        r"""``[..., D, D]``: :math:`\eta M^\top \eta`. The inverse in the group, and near it nearly so."""
        metric = self._metric(matrix)
        return metric[:, None] * matrix.mT * metric

    def defect(self, matrix: Tensor) -> Tensor:
        r"""How far ``[..., D, D]`` is from the group: mean absolute entry of :math:`M^\top \eta M - \eta`, ``[...]``.

        With ``special``, and :math:`|\det M - 1|`. 0 on the group and nowhere else. Its gradient is finite everywhere.
        """
        self._check(matrix)
        metric = self._metric(matrix)
        off = (matrix.mT @ (metric[:, None] * matrix) - torch.diag(metric)).abs().mean((-2, -1))
        return off + (torch.linalg.det(matrix) - 1).abs() if self.special else off

    def project(self, matrix: Tensor) -> Tensor:
        r"""The group's element that ``[..., D, D]`` comes to, in a way that commutes with the group from the left.

        Orthogonal groups: `orthonormalize`, the nearest element. Others: Newton's iteration for the generalised polar
        factor, :math:`M \leftarrow (M + \eta M^{-\top} \eta) / 2`, in float64. It arrives if no eigenvalue of
        :math:`\eta M^\top \eta M` is 0 or negative, so for matrices not too far from the group; ask ``defect`` of the
        result. Differentiable.
        """
        self._check(matrix)
        if bool((self.metric > 0).all()):
            return orthonormalize(matrix, special=self.special)
        metric, wide = self.metric.to(matrix.device), matrix.double()
        smallest = torch.finfo(wide.dtype).tiny
        for _ in range(NEWTON_STEPS):
            volume = torch.linalg.det(wide).abs().clamp(min=smallest)[..., None, None]
            wide = wide * volume ** (-1 / self.dim)  # the group's determinant is 1 or -1: a better start
            other = metric[:, None] * torch.linalg.inv_ex(wide).inverse.mT * metric
            wide = (wide + other) / 2
        return wide.to(matrix.dtype)

    def _metric(self, like: Tensor) -> Tensor:
        return self.metric.to(like)

    def _check(self, matrix: Tensor) -> None:
        if matrix.shape[-2:] != (self.dim, self.dim):
            raise ShapeError("matrix", f"shape {tuple(matrix.shape)}", f"[..., {self.dim}, {self.dim}]")

    def __repr__(self) -> str:
        return f"MatrixGroup(metric={self.metric.int().tolist()}, special={self.special})"
