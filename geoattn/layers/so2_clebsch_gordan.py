"""The weights of an SO(2) convolution as weights of Clebsch-Gordan paths, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from geoattn.geometry._constants import constant
from geoattn.geometry.clebsch_gordan import clebsch_gordan
from geoattn.geometry.edge_frame import m_sizes

Path = tuple[int, int, int]
"""Degrees (l_in, J, l_out): features of degree l_in times harmonics of degree J give degree l_out."""


def so2_weights_from_paths(
    paths: Mapping[Path, Tensor], lmax: int, mmax: int, in_channels: int, out_channels: int
) -> list[Tensor]:
    r"""Weights of `geoattn.layers.so2_conv.so2_linear` that convolve with the harmonics of the edge.

    Rotate, `so2_linear` with these weights and rotate back give, for mmax = lmax,

    .. math:: y_{l'm'} = \sum_{l, J} \sum_{m, M} h_{lJl'}\, C^{lJl'}_{mMm'}\, Y_{JM}(\hat r)\, x_{lm}

    with ``C = clebsch_gordan(l, J, l')`` and "component" harmonics. For each pair (l, l') the 2 min(l, l') + 1 paths
    and the matrices of :math:`W_0, W_{r,m}, W_{i,m}` determine each other: in the edge's frame only M = 0 is not zero,
    and the matrices :math:`\sqrt{2J+1}\, C^{lJl'}_{m0m'}` are orthonormal. Even J + l + l' make the :math:`W_r`, odd
    ones the :math:`W_i`.

    Papers: eSCN, arXiv:2302.03655; the inverse is `paths_from_so2_weights`.

    Args:
        paths: ``(l, J, l') -> h [C', C]``; missing paths count as zero.
        lmax: L, largest degree of l and l'.
        mmax: M; orders above it are dropped.
        in_channels: C.
        out_channels: C'.

    Returns:
        ``[(L+1) C', (L+1) C]`` for m = 0 and ``[2, (L-m+1) C', (L-m+1) C]`` for m = 1..M.

    Example:
        >>> weights = so2_weights_from_paths({(1, 0, 1): torch.ones(1, 1)}, 1, 1, 1, 1)  # J = 0: the identity
        >>> weights[1].flatten().tolist()  # W_r, W_i
        [0.5773502588272095, 0.0]
    """
    like = next(iter(paths.values()))
    weights = []
    for m, size in enumerate(m_sizes(lmax, mmax)):
        weight = like.new_zeros(2, size, out_channels, size, in_channels)
        for (l_in, j, l_out), path in paths.items():
            if m <= min(l_in, l_out):
                factors = frame_coefficients(l_in, j, l_out, like.dtype, like.device)[:, m]
                weight[:, l_out - m, :, l_in - m] += factors[:, None, None] * path
        weight = weight.flatten(3, 4).flatten(1, 2)
        weights.append(weight if m else weight[0])
    return weights


def paths_from_so2_weights(
    weights: Sequence[Tensor], lmax: int, in_channels: int, out_channels: int
) -> dict[Path, Tensor]:
    """The inverse of `so2_weights_from_paths`; weights of orders that are missing (mmax < lmax) count as zero.

    Args:
        weights: ``[(L+1) C', (L+1) C]`` for m = 0 and ``[2, (L-m+1) C', (L-m+1) C]`` for m = 1, 2, ..., as they stand
            in `SO2Conv.weights` without extra scalars.
        lmax: L.
        in_channels: C.
        out_channels: C'.

    Returns:
        ``(l, J, l') -> h [C', C]`` for all l, l' <= L and J = |l - l'|..l + l'.
    """
    paths = {}
    for l_in in range(lmax + 1):
        for l_out in range(lmax + 1):
            for j in range(abs(l_in - l_out), l_in + l_out + 1):
                path = weights[0].new_zeros(out_channels, in_channels)
                factors = frame_coefficients(l_in, j, l_out, path.dtype, path.device)
                for m, weight in enumerate(weights[: min(l_in, l_out) + 1]):
                    size = lmax - m + 1
                    blocks = weight.reshape(-1, size, out_channels, size, in_channels)[:, l_out - m, :, l_in - m]
                    multiplicity = 2 if m else 1  # +m and -m
                    path = path + multiplicity * torch.tensordot(factors[: len(blocks), m], blocks, 1)
                paths[l_in, j, l_out] = path
    return paths


@constant
def frame_coefficients(l_in: int, j: int, l_out: int) -> Tensor:
    r"""``[2, min(l_in, l_out) + 1]``: what the path contributes to W_r and to W_i of each m.

    :math:`\sqrt{2J+1}\, C_{m0m'}` at m' = m, and at m' = -m.
    """
    polar = (2 * j + 1) ** 0.5 * clebsch_gordan(l_in, j, l_out)[:, j]
    orders = torch.arange(min(l_in, l_out) + 1)
    real = polar[l_in + orders, l_out + orders]
    imaginary = polar[l_in + orders, l_out - orders]
    imaginary[0] = 0
    return torch.stack([real, imaginary])
