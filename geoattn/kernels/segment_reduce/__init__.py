"""Sum, mean, maximum or minimum over each target's edges."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from geoattn.errors import ShapeError, nearest_hint
from geoattn.kernels._checks import check_rows, check_type
from geoattn.kernels._dispatch import choose, compute_dtype, working_dtype
from geoattn.kernels._operation import operation
from geoattn.kernels.neighborhood import Neighborhood
from geoattn.kernels.segment_reduce import reference

Reduce = Literal["sum", "mean", "max", "min"]


def segment_reduce(x: Tensor, nbr: Neighborhood, reduce: Reduce = "sum") -> Tensor:
    r"""Reduce the edges of each target, separately in every channel.

    .. math:: y_i = \operatorname{reduce}_{e \in N(i)} x_e

    Where several edges attain the maximum or minimum, each gets an equal share of the gradient, as with
    `torch.amax`, so that the gradient does not depend on the order of the edges. NaN on an edge makes its target NaN.

    Args:
        x: ``[E, ...]`` floating-point values in the caller's order.
        nbr: the edges.
        reduce: "sum", "mean", "max" or "min".

    Returns:
        ``[N, ...]`` in the dtype of ``x``; 16-bit input is accumulated in float32. A target without edges gets 0.

    Raises:
        ShapeError: if ``x`` does not have one row per edge, is not floating point or is on another device, or for an
            unknown ``reduce``.

    Cost: O(E C) time, one pass; backward makes the ``[E, C]`` gradient and nothing else.

    Example:
        >>> import torch
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 2, 0], [0, 0, 2]]), num_targets=3)
        >>> segment_reduce(torch.tensor([1.0, 2.0, 3.0]), nbr, "sum")
        tensor([3., 0., 3.])
    """
    if reduce not in get_args(Reduce):
        raise ShapeError(
            "reduce", repr(reduce), "'sum', 'mean', 'max' or 'min'", nearest_hint(reduce, get_args(Reduce))
        )
    check_type("nbr", nbr, Neighborhood)
    check_rows("x", x, nbr.num_edges, "E", nbr)
    dtype = compute_dtype(x)
    chosen = choose("segment_reduce", x.to(dtype))
    x = x.to(working_dtype(chosen, dtype))
    if chosen == "reference":
        return reference.segment_reduce(x, nbr.row_ptr, nbr.target, nbr.edge_id, reduce).to(dtype)
    rows = x.flatten(1) if x.ndim > 1 else x[:, None]
    if reduce in ("sum", "mean"):
        y = segment_sum(rows, nbr.row_ptr, nbr.edge_id, reduce == "mean")
    else:
        y = segment_extremum(rows, nbr.row_ptr, nbr.edge_id, reduce == "max")
    return y.view(nbr.num_targets, *x.shape[1:]).to(dtype)


@operation
def segment_sum(x: Tensor, row_ptr: Tensor, edge_id: Tensor, mean: bool) -> Tensor:
    """``y_i = sum_{e in N(i)} x_e``, ``[E, C] -> [N, C]``, divided by the number of edges if ``mean``."""
    return x.new_empty(row_ptr.shape[0] - 1, x.shape[1])


@operation
def segment_spread(y: Tensor, row_ptr: Tensor, edge_id: Tensor, mean: bool) -> Tensor:
    """``x_e = y_target(e)``, ``[N, C] -> [E, C]``, divided by the target's number of edges if ``mean``.

    The transpose of `segment_sum`, so each is the other's gradient, to any order.
    """
    return y.new_empty(edge_id.shape[0], y.shape[1])


@operation
def segment_extremum(x: Tensor, row_ptr: Tensor, edge_id: Tensor, largest: bool) -> Tensor:
    """``y_i = max_{e in N(i)} x_e`` (or min), ``[E, C] -> [N, C]``."""
    return x.new_empty(row_ptr.shape[0] - 1, x.shape[1])


@operation
def segment_extremum_backward(grad: Tensor, x: Tensor, y: Tensor, row_ptr: Tensor, edge_id: Tensor) -> Tensor:
    """Gradient of `segment_extremum`, ``[N, C] -> [E, C]``: the edges with ``x_e = y_i`` share ``grad_i`` equally."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _save_edges(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, row_ptr, edge_id, ctx.mean = inputs
    ctx.save_for_backward(row_ptr, edge_id)


def _segment_sum_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return segment_spread(grad, *ctx.saved_tensors, ctx.mean), None, None, None


def _segment_spread_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return segment_sum(grad, *ctx.saved_tensors, ctx.mean), None, None, None


def _save_extremum(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, row_ptr, edge_id, _ = inputs
    ctx.save_for_backward(x, output, row_ptr, edge_id)


def _segment_extremum_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    x, y, row_ptr, edge_id = ctx.saved_tensors
    if not torch.is_grad_enabled():
        return segment_extremum_backward(grad, x, y, row_ptr, edge_id), None, None, None
    with torch.no_grad():
        share = segment_extremum_backward(torch.ones_like(grad), x, y, row_ptr, edge_id)
    return segment_spread(grad, row_ptr, edge_id, False) * share, None, None, None


segment_sum.register_autograd(_segment_sum_backward, setup_context=_save_edges)
segment_spread.register_autograd(_segment_spread_backward, setup_context=_save_edges)
segment_extremum.register_autograd(_segment_extremum_backward, setup_context=_save_extremum)
