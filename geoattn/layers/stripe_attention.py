"""Attention along the rows or the columns of a panorama: EGformer's, and a separable cousin of `SphereAttention`."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError, nearest_hint
from geoattn.geometry.sphere import latitudes

Axis = Literal["row", "column"]
Score = Literal["softmax", "das"]

BIAS = 0.1
"""Factor of the chords beside the products of queries and keys."""
LEAST = 0.5
"""The smallest share that attention has in a stripe, of the score "das"."""


class StripeAttention(nn.Module):
    r"""Each pixel of a panorama attends to the pixels of its own row, or of its own column.

    Two of them, one along each axis, reach every pixel from every other. With i the query and j the key of a stripe,

    .. math::
        l_{ij} = q_i \cdot k_j + 0.1\, c_{ij}, \qquad
        c_{ij} = \pm \lVert x_i - x_j \rVert =
        \begin{cases}
            \operatorname{sign}(\sin(\phi_j - \phi_i)) \, \sin\theta \, \sqrt{2 - 2 \cos(\phi_j - \phi_i)}, \\
            \operatorname{sign}(\theta_j - \theta_i) \, \sqrt{2 - 2 \cos(\theta_j - \theta_i)},
        \end{cases}

    where c is the signed chord between the two places on the unit sphere (above in a row, below in a column), left out
    for ``bias=None``. The score "das" is the paper's: with a mean over the heads and the pairs of a stripe s of its
    sample,

    .. math::
        a_{ij} = 1 - \cos\Big(\frac{\pi}{2} \frac{l_{ij}}{\lVert l_{i \cdot} \rVert_2}\Big), \quad
        m_s = \max\Big(\frac12, \frac{\operatorname{mean} |l^s|}{\max_t \operatorname{mean} |l^t|}\Big), \quad
        y_i = m_s \textstyle\sum_j a_{ij} v_j + (1 - m_s) x_i

    whose rows do not sum to 1. The score "softmax" is the quadrature of `sphere_attention` along one axis:

    .. math::
        y_i = \textstyle\sum_j \operatorname{softmax}_j\big( q_i \cdot k_j / \sqrt D + 0.1\, c_{ij} + \log w_j \big) v_j

    with w the areas of the pixels, which along a row are equal. A linear map of y follows.

    Different from the paper's code: the difference of longitudes is wrapped, so that the image has no seam; the
    shares :math:`m_s` are relative to the strongest stripe of the same sample, not of the batch; rows lie where
    `latitudes` has them, so that the first is no pole, and the last column is not at the place of the first; tables are
    made for the size that comes. There the :math:`x_i` of the last term have not been through the norm that the
    queries' have; here they are the input. Put a norm before and a residual around.

    Args:
        channels: C, divisible by ``num_heads``.
        num_heads: H.
        axis: "row": pixels of equal latitude; "column": of equal longitude.
        score: "softmax" or "das".
        bias: "chord" or None.
        kind: of the rows, see `geoattn.geometry.latitudes`; those of an image are "cells". Kinds with poles have rows
            in which all chords are 0, as they are there.

    Shapes:
        x ``[B, C, nlat, nlon]``, from north to south, longitudes over a full turn. Returns the same.

    Symmetry: turning about the axis by whole columns, exactly. Without bias also mirroring east and west, and north
    and south; with it, "row" commutes with the latter and "column" with the former. Not rotations, as its stripes are
    not turned into stripes. Samples never meet.

    Cost: O(B nlat nlon (nlat + nlon) C) time for both axes. "softmax" takes O(B C nlat nlon) memory, on a GPU also a
    table of ``nlat x nlon x nlon`` of the chords of rows for all heads and samples; "das" keeps ``B x H`` tables of
    scores, ``nlat x nlon x nlon`` for rows and ``nlon x nlat x nlat`` for columns. Scores have the precision of float32
    at least.

    Edge cases: in a stripe of one pixel, "softmax" gives its value. Logits of zero are scores of 0 in "das".

    Source: Yun et al., "EGformer: Equirectangular Geometry-biased Transformer for 360 Depth Estimation", ICCV 2023,
    arXiv:2304.07803.

    Example:
        >>> rows, columns = StripeAttention(8, 2, "row"), StripeAttention(8, 2, "column")
        >>> columns(rows(torch.randn(1, 8, 6, 12))).shape
        torch.Size([1, 8, 6, 12])
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 4,
        axis: Axis = "row",
        score: Score = "softmax",
        bias: Literal["chord"] | None = "chord",
        *,
        kind: str = "cells",
    ) -> None:
        super().__init__()
        if num_heads < 1:
            raise ShapeError("num_heads", f"{num_heads}", "at least 1")
        if channels % num_heads:
            raise ShapeError("channels", f"{channels}", f"a multiple of num_heads = {num_heads}")
        for name, value, known in (("axis", axis, ["row", "column"]), ("score", score, ["softmax", "das"])):
            if value not in known:
                raise ShapeError(name, repr(value), " or ".join(map(repr, known)), nearest_hint(value, known))
        if bias not in ("chord", None):
            raise ShapeError("bias", repr(bias), "'chord' or None")
        self.channels, self.num_heads = channels, num_heads
        self.axis, self.score, self.bias, self.kind = axis, score, bias, kind
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Attention along the axis; see the class for shapes.

        Raises:
            ShapeError: if ``x`` is not ``[B, C, nlat, nlon]``, or has too few rows for the kind of grid.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"[B, {self.channels}, nlat, nlon]")
        stripes = x.permute(0, 2, 3, 1) if self.axis == "row" else x.permute(0, 3, 2, 1)  # [B, S, L, C]
        q, k, v = (linear(stripes).unflatten(3, (self.num_heads, -1)) for linear in (self.query, self.key, self.value))
        bias = _bias(self.axis, self.bias == "chord", self.score == "softmax", x.shape[2], x.shape[3], self.kind)
        with torch.autocast(x.device.type, enabled=False):  # areas and chords would lose their digits in 16 bits
            rows, keys, values = (y.to(torch.promote_types(y.dtype, torch.float32)).movedim(3, 1) for y in (q, k, v))
            table = None if bias is None else bias.to(rows)
            if table is not None and self.axis == "row":
                table, keys, values = _sliding(table), keys.flip(3), values.flip(3)
            if self.score == "softmax":
                y = _softmax(rows, keys, values, table)
            else:
                y = _das(rows, keys, values, table, stripes)
        out = self.out(y.movedim(1, 3).flatten(3).to(q.dtype))
        return out.permute(0, 3, 1, 2) if self.axis == "row" else out.permute(0, 3, 2, 1)

    def extra_repr(self) -> str:
        return f"{self.channels}, num_heads={self.num_heads}, axis={self.axis}, score={self.score}, bias={self.bias}"


def _softmax(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """``[B, H, S, L, D]``; the heads and samples share the table ``[S or 1, L, L]``."""
    query, key, value = (y.flatten(0, 1) for y in (q, k, v))
    mask = None if bias is None else bias[None]  # four axes, or the fused forms do not take it
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).unflatten(0, q.shape[:2])


def _das(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    logits = q @ k.mT
    if bias is not None:
        logits = logits + bias
    weight = 1 - (functional.normalize(logits, dim=-1) * (math.pi / 2)).cos()
    strength = logits.abs().mean((1, 3, 4), keepdim=True)  # of a stripe, in all heads
    tiny = torch.finfo(logits.dtype).tiny
    share = (strength / strength.amax(2, keepdim=True).clamp_min(tiny)).clamp_min(LEAST)
    rest = x.to(v.dtype).unflatten(3, (q.shape[1], -1)).movedim(3, 1)
    return share * (weight @ v) + (1 - share) * rest


def _bias(axis: Axis, chord: bool, weighted: bool, nlat: int, nlon: int, kind: str) -> Tensor | None:
    """float64, what is added to the logits of a stripe; None: nothing. ``[1, L, L]`` for columns, query by key;
    ``[S, L]`` for rows, by how many columns east of the query the key is."""
    colatitude, weight = latitudes(nlat, kind)
    if axis == "row":  # all pixels of a row have the same area, which cancels
        return BIAS * row_chords(colatitude, nlon) if chord else None
    table = BIAS * column_chords(colatitude) if chord else torch.zeros(nlat, nlat, dtype=torch.float64)
    return (table + weight.log() if weighted else table)[None] if chord or weighted else None


def row_chords(colatitude: Tensor, nlon: int) -> Tensor:
    """``[nlat, nlon]`` chords in each row to the pixel so many columns east, positive to the east, halfway 0."""
    east = torch.arange(nlon)
    sign = (nlon - 2 * east).sign() * (east > 0)
    angle = torch.minimum(east, nlon - east).double() * (2 * math.pi / nlon)
    return colatitude.sin()[:, None] * (sign * 2 * (angle / 2).sin())


def _sliding(table: Tensor) -> Tensor:
    """``[S, L, L]`` query by key, keys from the last to the first, of ``[S, L]`` by the columns between them.

    Each query's row is the one before moved by one, so that on the CPU it is a view of two rows of numbers; what runs
    on a GPU wants rows that begin at whole addresses.
    """
    length = table.shape[1]
    back = table.flip(1)
    view = torch.cat([back, back[:, :-1]], 1).unfold(1, length, 1)
    return view if table.device.type == "cpu" else view.contiguous()


def column_chords(colatitude: Tensor) -> Tensor:
    """``[nlat, nlat]`` chords from a row (first) to another along a meridian, positive to the south."""
    return 2 * ((colatitude - colatitude[:, None]) / 2).sin()
