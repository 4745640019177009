"""Iterative SE(3)-Transformer: positions are refined in several passes, each seeing the geometry it has made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, as_neighborhood
from geoattn.models.se3_transformer import SE3Transformer

if TYPE_CHECKING:
    from e3nn.o3 import Irreps


class IterativeSE3Transformer(nn.Module):
    r"""Moves points by the type-1 output of an `SE3Transformer`, several times.

    .. math:: x^{(t+1)} = x^{(t)} + u_t\big(f, x^{(t)}\big), \qquad t = 0, \dots, T - 1

    Each pass has weights of its own and computes the edges' geometry anew, from the positions of the pass before, with
    gradients: the first pass learns where its positions lead the last one. ``detach_basis`` cuts these gradients, which
    is what a basis computed without them does, and is worse; it is there for comparison.

    Paper: "Iterative SE(3)-Transformers", arXiv:2102.13419.

    Args:
        irreps_in: irreps of the features; every pass gets the same.
        irreps_hidden: irreps between the layers.
        num_iterations: T.
        num_layers: layers of each pass.
        detach_basis: whether the geometry of a pass hands on no gradient to the positions.
        options: other arguments of `SE3Transformer`.

    Shapes:
        x ``[N, irreps_in.dim]``, pos ``[N, 3]``, edge_index ``[2, E]`` or a ``Neighborhood``, edge_attr ``[E, A]`` in
        the caller's order. Returns the positions after each pass, T tensors ``[N, 3]``; the last is the result.

    Symmetry: equivariant to SE(3) and permutations, exactly; to E(3) with ``reflections=True``.

    Cost: T times that of an `SE3Transformer`, and T edge bases.

    Example:
        >>> import torch
        >>> model = IterativeSE3Transformer("1x0e", "4x0e + 4x1o", num_iterations=2, num_layers=1)
        >>> edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
        >>> [pos.shape for pos in model(torch.ones(3, 1), torch.randn(3, 3), edges)]
        [torch.Size([3, 3]), torch.Size([3, 3])]
    """

    def __init__(
        self,
        irreps_in: str | Irreps,
        irreps_hidden: str | Irreps,
        num_iterations: int = 3,
        num_layers: int = 4,
        *,
        detach_basis: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        if num_iterations < 1:
            raise ShapeError("num_iterations", f"{num_iterations}", "at least 1")
        self.detach_basis = detach_basis
        self.passes = nn.ModuleList(
            SE3Transformer(irreps_in, irreps_hidden, "1x1o", num_layers=num_layers, **options)
            for _ in range(num_iterations)
        )

    def forward(
        self, x: Tensor, pos: Tensor, edge_index: Tensor | Neighborhood, edge_attr: Tensor | None = None
    ) -> list[Tensor]:
        """Positions after each pass; see the class for shapes."""
        nbr = as_neighborhood(edge_index, x.shape[0])
        path = []
        for network in self.passes:
            pos = pos + network(x, pos.detach() if self.detach_basis else pos, nbr, edge_attr)
            path.append(pos)
        return path
