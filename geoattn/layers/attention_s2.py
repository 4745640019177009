"""`AttentionS2` and `NeighborhoodAttentionS2`: attention on latitude-longitude grids, as torch-harmonics has it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError
from geoattn.geometry.sphere import lat_lon_grid, latitudes
from geoattn.layers.spherical_attention import FixedPoints


class _GridAttention(nn.Module):
    """Parameters and maps that both have; 1 x 1 convolutions as torch-harmonics stores them."""

    q_norm_weights: Tensor | None
    k_norm_weights: Tensor | None
    proj_weights: Tensor
    proj_bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        num_heads: int,
        in_shape: tuple[int, int],
        out_shape: tuple[int, int],
        grid_in: str,
        grid_out: str,
        cutoff: float | None,
        taper: bool,
        scale: Tensor | float | None,
        use_qknorm: bool,
        bias: bool,
        k_channels: int | None,
        out_channels: int | None,
        drop_rate: float,
    ) -> None:
        super().__init__()
        k_channels = in_channels if k_channels is None else k_channels
        out_channels = in_channels if out_channels is None else out_channels
        if num_heads < 1:
            raise ShapeError("num_heads", f"{num_heads}", "at least 1")
        for name, width in (("k_channels", k_channels), ("out_channels", out_channels)):
            if width % num_heads:
                raise ShapeError(name, f"{width}", f"a multiple of num_heads = {num_heads}")
        self.num_heads, self.scale, self.drop_rate = num_heads, scale, drop_rate
        self.in_shape, self.out_shape = (in_shape[0], in_shape[1]), (out_shape[0], out_shape[1])
        sources, targets = lat_lon_grid(*self.in_shape, grid_in), lat_lon_grid(*self.out_shape, grid_out)
        self.points = FixedPoints(sources, targets, cutoff, taper)
        sizes = {"q": (k_channels, in_channels), "k": (k_channels, in_channels), "v": (out_channels, in_channels)}
        for name, (rows, columns) in (sizes | {"proj": (out_channels, out_channels)}).items():
            bound = math.sqrt((3 if name == "proj" else 6) / (columns + (0 if name == "proj" else rows)))
            self.register_parameter(name + "_weights", _uniform(rows, columns, bound))
            self.register_parameter(name + "_bias", nn.Parameter(torch.zeros(rows)) if bias else None)
        for name in ("q_norm_weights", "k_norm_weights"):
            gain = nn.Parameter(torch.zeros(k_channels // num_heads)) if use_qknorm else None
            self.register_parameter(name, gain)

    def forward(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None) -> Tensor:
        """Attention of the output grid's points to the input grid's.

        Args:
            query: ``[B, in_channels, nlat_out, nlon_out]``.
            key: ``[B, in_channels, nlat_in, nlon_in]``; None: ``query``.
            value: as key; None: ``query``.

        Returns:
            ``[B, out_channels, nlat_out, nlon_out]``.

        Raises:
            ShapeError: if a tensor is not a field on its grid.
        """
        key = query if key is None else key
        value = query if value is None else value
        fields = (("query", query, self.out_shape), ("key", key, self.in_shape), ("value", value, self.in_shape))
        for name, field, shape in fields:
            if field.ndim != 4 or field.shape[2:] != shape:
                raise ShapeError(name, f"shape {tuple(field.shape)}", f"[B, C, {shape[0]}, {shape[1]}]")
        q, k, v = self._map("q", query), self._map("k", key), self._map("v", value)
        if self.q_norm_weights is not None and self.k_norm_weights is not None:
            q = functional.rms_norm(q, q.shape[3:], 1 + self.q_norm_weights)
            k = functional.rms_norm(k, k.shape[3:], 1 + self.k_norm_weights)
        scale = self.scale
        if isinstance(scale, Tensor):
            q, scale = q * scale, 1.0
        out = self.points.attend(q, k, v, scale, self.drop_rate if self.training else 0.0)
        out = functional.linear(out.flatten(2), self.proj_weights.flatten(1), self.proj_bias)
        return out.transpose(1, 2).unflatten(2, self.out_shape)

    def _map(self, name: str, field: Tensor) -> Tensor:
        """``[B, N, H, D]``, in a disk in the memory order of the folded batch, so that no copy follows."""
        weight, bias = getattr(self, name + "_weights").flatten(1), getattr(self, name + "_bias")
        rows = field.flatten(2)
        if self.points.neighborhood is None:
            mapped = functional.linear(rows.transpose(1, 2), weight, bias)
        else:
            mapped = functional.linear(rows.permute(2, 0, 1), weight, bias).transpose(0, 1)
        return mapped.unflatten(2, (self.num_heads, -1))

    def extra_repr(self) -> str:
        return f"in_shape={self.in_shape}, out_shape={self.out_shape}, num_heads={self.num_heads}"


class AttentionS2(_GridAttention):
    r"""Global attention between latitude-longitude grids, each key weighted with its area.

    `sphere_attention` between 1 x 1 convolutions. Arguments, parameter names and results are those of torch-harmonics
    0.9.3, whose state dicts load; the numbers of columns of the two grids need not divide each other.

    Args:
        in_channels: channels of the input.
        num_heads: H; divides ``k_channels`` and ``out_channels``.
        in_shape: (nlat, nlon) of the keys.
        out_shape: (nlat, nlon) of the queries and the output.
        grid_in: kind of the keys' rows, see `geoattn.geometry.latitudes`.
        grid_out: kind of the queries' rows.
        scale: of the dot products; a tensor, such as a parameter, is learned; None: one over the root of the head size.
        use_qknorm: root-mean-square norm of each head's queries and keys, with gain 1 + w.
        bias: whether the maps have biases.
        k_channels: width of queries and keys; None: ``in_channels``.
        out_channels: width of values and output; None: ``in_channels``.
        drop_rate: dropout of the weights in training, see `sphere_attention`.

    Symmetry: turning about the axis by whole columns, and mirroring north and south, exactly; all rotations up to an
    error that falls spectrally as the grids become finer.

    Source: Bonev et al., "Attention on the Sphere", arXiv:2505.11157.

    Example:
        >>> AttentionS2(8, 2, in_shape=(9, 16), out_shape=(9, 16))(torch.randn(1, 8, 9, 16)).shape
        torch.Size([1, 8, 9, 16])
    """

    def __init__(
        self,
        in_channels: int,
        num_heads: int,
        in_shape: tuple[int, int],
        out_shape: tuple[int, int],
        grid_in: str = "equiangular",
        grid_out: str = "equiangular",
        scale: Tensor | float | None = None,
        use_qknorm: bool = False,
        bias: bool = True,
        k_channels: int | None = None,
        out_channels: int | None = None,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(
            in_channels, num_heads, in_shape, out_shape, grid_in, grid_out, None, False, scale, use_qknorm, bias,
            k_channels, out_channels, drop_rate,
        )  # fmt: skip


class NeighborhoodAttentionS2(_GridAttention):
    r"""Attention in geodesic disks between latitude-longitude grids, each key weighted with its area.

    `AttentionS2` within ``theta_cutoff``. Arguments, parameter names and results are those of torch-harmonics 0.9.3,
    whose state dicts load; the numbers of columns of the two grids need not divide each other.

    Args:
        in_channels, in_shape, out_shape, grid_in, grid_out, num_heads, scale, use_qknorm, bias, k_channels,
            out_channels: as in `AttentionS2`.
        theta_cutoff: radius of the disk in radians; None: the widest spacing between rows of the coarser grid, that of
            the output unless the input has fewer columns. A disk with the area of a window of 7 x 7 pixels has
            :math:`(7 / \sqrt \pi) \, \pi / (n_{lat} - 1)`.
        taper: whether the disk fades instead of ending, see `SphereAttention`.

    Symmetry: as `AttentionS2`, but the error under rotations falls with the size of the cells that the disk's edge
    cuts; faster with ``taper``.

    Source: Bonev et al., "Attention on the Sphere", arXiv:2505.11157.

    Example:
        >>> layer = NeighborhoodAttentionS2(8, in_shape=(9, 16), out_shape=(9, 16), num_heads=2)
        >>> layer(torch.randn(1, 8, 9, 16)).shape
        torch.Size([1, 8, 9, 16])
    """

    def __init__(
        self,
        in_channels: int,
        in_shape: tuple[int, int],
        out_shape: tuple[int, int],
        grid_in: str = "equiangular",
        grid_out: str = "equiangular",
        num_heads: int = 1,
        scale: Tensor | float | None = None,
        use_qknorm: bool = False,
        bias: bool = True,
        theta_cutoff: float | None = None,
        k_channels: int | None = None,
        out_channels: int | None = None,
        *,
        taper: bool = False,
    ) -> None:
        if theta_cutoff is None:
            coarser = (in_shape[0], grid_in) if out_shape[1] > in_shape[1] else (out_shape[0], grid_out)
            theta_cutoff = float(latitudes(*coarser)[0].diff().max())
        super().__init__(
            in_channels, num_heads, in_shape, out_shape, grid_in, grid_out, theta_cutoff, taper, scale, use_qknorm,
            bias, k_channels, out_channels, 0.0,
        )  # fmt: skip
        self.theta_cutoff = theta_cutoff


def _uniform(rows: int, columns: int, bound: float) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, columns, 1, 1).uniform_(-bound, bound))
