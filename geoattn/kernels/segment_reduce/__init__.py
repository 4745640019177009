"""Sum, mean, maximum or minimum over each target's edges."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from geoattn.errors import ShapeError, nearest_hint
from geoattn.kernels._checks import check_rows
from geoattn.kernels._dispatch import choose, compute_dtype, working_dtype
from geoattn.kernels.neighborhood import Neighborhood
from geoattn.kernels.segment_reduce import reference

Reduce = Literal["sum", "mean", "max", "min"]


def segment_reduce(x: Tensor, nbr: Neighborhood, reduce: Reduce = "sum") -> Tensor:
    r"""Reduce the edges of each target, separately in every channel.

    .. math:: y_i = \operatorname{reduce}_{e \in N(i)} x_e

    Where several edges attain the maximum or minimum, each gets an equal share of the gradient, as with
    `torch.amax`, so that the gradient does not depend on the order of the edges.

    Args:
        x: ``[E, ...]`` floating-point values in the caller's order.
        nbr: the edges.
        reduce: "sum", "mean", "max" or "min".

    Returns:
        ``[N, ...]`` in the dtype of ``x``; 16-bit input is accumulated in float32. A target without edges gets 0.

    Raises:
        ShapeError: if ``x`` does not have one row per edge, is not floating point or is on another device, or for an
            unknown ``reduce``.

    Cost: O(E C) time; no temporary of the size of ``x``.

    Example:
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 2, 0], [0, 0, 2]]), num_targets=3)
        >>> segment_reduce(torch.tensor([1.0, 2.0, 3.0]), nbr, "sum")
        tensor([3., 0., 3.])
    """
    if reduce not in get_args(Reduce):
        raise ShapeError(
            "reduce", repr(reduce), "'sum', 'mean', 'max' or 'min'", nearest_hint(reduce, get_args(Reduce))
        )
    check_rows("x", x, nbr.num_edges, "E", nbr)
    dtype = compute_dtype(x)
    x = x.to(dtype)
    chosen = choose("segment_reduce", x, {"numba": "it is not written yet", "triton": "it is not written yet"})
    x = x.to(working_dtype(chosen, dtype))
    return reference.segment_reduce(x, nbr.row_ptr, nbr.target, nbr.edge_id, reduce).to(dtype)
