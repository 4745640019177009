"""`VectorNetwork`: a few vectors that turn with a cloud of points, for canonicalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.geometry.matrix_groups import MatrixGroup
from geoattn.layers.symmetrize.in_frames import check_points


class VectorNetwork(nn.Module):
    r"""Equivariant vectors of a whole cloud: sums of its points, weighted by networks of inner products.

    .. math::
        v_c &= \textstyle\frac1n \sum_i \varphi_0(\langle x_i, x_i \rangle, z_i)_c\, x_i \\
        v_c &\leftarrow v_c + \textstyle\frac1n \sum_i
            \varphi_t(\langle x_i, x_i \rangle, (\langle x_i, v_b \rangle)_{b = 1}^C, z_i)_c\, x_i

    a few rounds of the second line, then a linear combination of the :math:`v_c` for each dimension. No neighbours, so
    the cost is linear. Inner products are those of the group's metric (compressed as ``sign(p) log(1 + |p|)``), so the
    same network serves rotations and Lorentz transformations. The numbers :math:`z_i` make its vectors random.

    Args:
        group: whose inner product counts; rotations of space if None.
        channels: C, vectors inside.
        hidden_channels: width of the networks.
        rounds: how often the vectors are refined.
        noise_channels: Z, numbers of each point.

    Shapes:
        pos ``[B, N, D]`` relative to its centre, noise ``[B, N, Z]``, mask ``[B, N]`` bool. Returns ``[B, D, D]``, a
        vector in each **column**.

    Symmetry: exactly equivariant under the group, from the left; invariant to permutations of the points (with their
    noise).

    Cost: O(N (C D + hidden C)) per round.

    Edge cases: a cloud that a rotation maps on itself has vectors on the axis of that rotation alone, and none at all
    where there are several axes or a centre of inversion (a cube, methane). An empty cloud has zeros.

    Example:
        >>> network = VectorNetwork()
        >>> network(torch.randn(2, 10, 3)).shape
        torch.Size([2, 3, 3])
    """

    def __init__(
        self,
        group: MatrixGroup | None = None,
        *,
        channels: int = 16,
        hidden_channels: int = 32,
        rounds: int = 2,
        noise_channels: int = 0,
    ) -> None:
        super().__init__()
        self.group = MatrixGroup.rotations(3) if group is None else group
        self.noise_channels = noise_channels
        widths = [1 + noise_channels] + rounds * [1 + channels + noise_channels]
        self.weights = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden_channels), nn.SiLU(), nn.Linear(hidden_channels, channels))
            for width in widths
        )
        self.mix = nn.Linear(channels, self.group.dim, bias=False)

    def forward(self, pos: Tensor, noise: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """The vectors; see the class for shapes.

        Raises:
            ShapeError: if a tensor's shape does not fit the constructor's arguments.
        """
        check_points(pos, mask, self.group.dim)
        width = 0 if noise is None else noise.shape[-1]
        if width != self.noise_channels or (noise is not None and noise.shape[:2] != pos.shape[:2]):
            got = "None" if noise is None else f"shape {tuple(noise.shape)}"
            raise ShapeError("noise", got, f"[B, N, {self.noise_channels}], or None for 0")
        inside = pos.new_ones(pos.shape[:2]) if mask is None else mask.to(pos.dtype)
        share = (inside / inside.sum(1, keepdim=True).clamp(min=1))[..., None]
        square = (pos * pos * self.group.metric.to(pos)).sum(-1, keepdim=True)
        vectors = None
        for weights in self.weights:
            products = [square] if vectors is None else [square, self.group.product(pos, vectors)]
            invariants = [torch.sign(p) * torch.log1p(p.abs()) for p in products]
            weight = weights(torch.cat(invariants if noise is None else [*invariants, noise], dim=-1))
            step = (weight * share).mT @ pos
            vectors = step if vectors is None else vectors + step
        assert vectors is not None
        return self.mix(vectors.mT)

    def extra_repr(self) -> str:
        return f"{self.group}, noise_channels={self.noise_channels}"
