"""Fields on the sphere to fields on the sphere: attention among coarser points between two changes of resolution."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.geometry.harmonics import spherical_harmonics
from geoattn.geometry.sphere import (
    SpherePoints,
    geodesic_neighborhood,
    healpix,
    lat_lon_grid,
    window_neighborhood,
)
from geoattn.kernels import Neighborhood
from geoattn.layers.spherical_attention import SphereAttention

DEGREE = 4
"""Largest degree of the harmonics that tell a network where a point is; products of two of them tell displacements."""
ACROSS = 3.0
"""Width, in coarse cells, of the disk that a change of resolution looks at."""


class SphereTransformer(nn.Module):
    r"""Features of points go to coarser points, attend to each other there block by block, and come back.

    A linear map at the N points; attention of each of M inner points to the points around it; ``num_layers`` times
    ``x + attention(norm(x + p))``, then ``x + mlp(norm(x))``; attention of each of the N points to the inner points
    around it; and a network on what was there before and what came back, beside a linear map of the inputs, which a
    network behind a norm learns badly. p are learned maps of real spherical harmonics up to degree 4: where a point is.
    Through them a head can look to the east, and a planet's rotation be felt; without them the network would be as
    equivariant as its attention.

    Paper: the S2 transformer of Bonev et al., "Attention on the Sphere", arXiv:2505.11157, with attention also where it
    has convolutions, so that it works on any points.

    Args:
        in_channels: F.
        out_channels: width of the answer.
        points: N points where the fields are.
        inner: M points in between; `coarser` of ``points`` if left out.
        channels: C; divisible by ``num_heads``.
        num_heads: of each attention.
        num_layers: blocks among the inner points.
        window: width of a point's disk in cells of the inner points: the disk has the area of a square of that many
            cells; None: everywhere.
        mlp_ratio: width of a block's network in units of ``channels``.
        planar: windows of pixels in the place of disks, and all pixels count the same: a network of the same
            parameters that takes a map for a plane, for comparison. Needs grids.

    Shapes:
        x ``[B, F, N]``. Returns ``[B, out_channels, N]``.

    Symmetry: shifts in longitude by a cell of the inner grid commute with the attention, all rotations up to its error
    (see `SphereAttention`); the harmonics break that on purpose. Samples never meet.

    Cost: O(B (N + M) C^2) and, for disks of K points, O(B M K C); memory O(B (N + M) C), also without disks.

    The parameters do not depend on the points: a state dict serves every resolution.

    Example:
        >>> grid = lat_lon_grid(9, 16)
        >>> SphereTransformer(3, 2, grid, channels=16, num_layers=1)(torch.randn(1, 3, 144)).shape
        torch.Size([1, 2, 144])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        points: SpherePoints,
        inner: SpherePoints | None = None,
        *,
        channels: int = 64,
        num_heads: int = 4,
        num_layers: int = 4,
        window: float | None = 7.0,
        mlp_ratio: int = 2,
        planar: bool = False,
    ) -> None:
        super().__init__()
        inner = coarser(points) if inner is None else inner
        self.embed = nn.Linear(in_channels, channels)
        self.place = Place(points, channels)
        self.down = resample(channels, points, inner, num_heads, planar)
        self.inner_place = Place(inner, channels)
        looks = block_neighborhood(inner, window, planar)
        self.blocks = nn.ModuleList(
            SphereBlock(channels, inner, num_heads, looks, mlp_ratio, planar) for _ in range(num_layers)
        )
        self.up = resample(channels, inner, points, num_heads, planar)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.head = nn.Sequential(
            nn.LayerNorm(2 * channels),
            nn.Linear(2 * channels, mlp_ratio * channels),
            nn.SiLU(),
            nn.Linear(mlp_ratio * channels, out_channels),
        )
        self.direct = nn.Linear(in_channels, out_channels, bias=False)
        nn.init.zeros_(self.direct.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The answer; see the class for shapes.

        Raises:
            ShapeError: if ``x`` has not as many points as the network.
        """
        fine = self.place(self.embed(x.mT))
        coarse = self.down(self.inner_place(fine.new_zeros(1, 1, 1)).expand(len(x), -1, -1), self.norms[0](fine))
        for block in self.blocks:
            coarse = block(coarse)
        back = self.up(fine, self.norms[1](coarse))
        return (self.head(torch.cat([fine, back], -1)) + self.direct(x.mT)).mT


class Place(nn.Module):
    """Adds to the features of fixed points a learned map of where they are."""

    def __init__(self, points: SpherePoints, channels: int) -> None:
        super().__init__()
        harmonics = spherical_harmonics(points.xyz, DEGREE, "norm")[:, 1:]  # at most 1, whatever points there are
        self.register_buffer("harmonics", harmonics.to(torch.get_default_dtype()), persistent=False)
        self.map = nn.Linear(harmonics.shape[1], channels, bias=False)

    harmonics: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """``[B, N, C]`` features plus place; ``[1, 1, 1]`` stands for none."""
        return x + self.map(self.harmonics)


class SphereBlock(nn.Module):
    """A block of a transformer on fixed points: attention in disks, then a network on each point.

    Args:
        channels: C.
        points: of the features.
        num_heads: of the attention.
        looks: who looks at whom, of `block_neighborhood`; blocks on the same points share it.
        mlp_ratio: width of the network in units of C.
        planar: all pixels count the same.

    Shapes: ``[B, N, C]`` to the same.
    """

    def __init__(
        self,
        channels: int,
        points: SpherePoints,
        num_heads: int,
        looks: Neighborhood | None,
        mlp_ratio: int,
        planar: bool,
    ) -> None:
        super().__init__()
        self.place = Place(points, channels)
        self.norm = nn.LayerNorm(channels)
        self.attention = SphereAttention(channels, points, None, num_heads, weighted=not planar, neighborhood=looks)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, mlp_ratio * channels),
            nn.SiLU(),
            nn.Linear(mlp_ratio * channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm(self.place(x)))
        return x + self.mlp(x)


def block_neighborhood(points: SpherePoints, window: float | None, planar: bool) -> Neighborhood | None:
    """The disks of a block, or windows of pixels, ``window`` cells wide; None: all look at all."""
    if planar:
        shape = _grid_shape(points)
        return window_neighborhood(shape, shape, max(shape) if window is None else round(window))
    cutoff = math.pi if window is None else disk_radius(points, window)
    return geodesic_neighborhood(points, points, cutoff) if cutoff < math.pi else None


def resample(
    channels: int, sources: SpherePoints, targets: SpherePoints, num_heads: int, planar: bool
) -> SphereAttention:
    """Attention that carries features from some points to others, denser or coarser: to those around each."""
    if planar:
        shapes = _grid_shape(targets), _grid_shape(sources)
        size = math.ceil(ACROSS * max(1, shapes[1][0] / shapes[0][0]))
        looks = window_neighborhood(*shapes, size)
        return SphereAttention(channels, sources, targets, num_heads, weighted=False, neighborhood=looks)
    cutoff = max(disk_radius(sources, ACROSS), disk_radius(targets, ACROSS))
    return SphereAttention(channels, sources, targets, num_heads, cutoff=cutoff)


def disk_radius(points: SpherePoints, window: float) -> float:
    r"""Radius of a disk with the area of ``window`` times ``window`` of the largest cells: :math:`w h / \sqrt\pi`."""
    return min(math.pi, window * math.sqrt(float(points.weight.max()) / math.pi))


def coarser(points: SpherePoints, factor: int = 2) -> SpherePoints:
    """Points with about ``factor`` times the spacing: a Gauss-Legendre grid for grids, HEALPix for all others.

    Example:
        >>> coarser(lat_lon_grid(9, 16)).shape, coarser(healpix(4)).kind
        ((5, 8), 'healpix-ring')
    """
    if points.shape is not None:
        rows, columns = (max(2, -(-number // factor)) for number in points.shape)
        return lat_lon_grid(rows, columns, "legendre-gauss")
    return healpix(max(1, round(math.sqrt(points.num_points / 12) / factor)))


def _grid_shape(points: SpherePoints) -> tuple[int, int]:
    if points.shape is None:
        raise ShapeError("planar", f"True on points of kind {points.kind!r}", "a grid of latitudes and longitudes")
    return points.shape
