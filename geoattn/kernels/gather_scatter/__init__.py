"""Weighted sum of each target's sources, and its gradient by the weights as an operation of its own."""

import math
from typing import Any

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels._checks import check_rows, check_type
from geoattn.kernels._dispatch import choose, compute_dtype, working_dtype
from geoattn.kernels._operation import operation
from geoattn.kernels.gather_scatter import reference
from geoattn.kernels.neighborhood import Neighborhood


def gather_scatter(x: Tensor, weight: Tensor | None, nbr: Neighborhood) -> Tensor:
    r"""Weighted sum of the features of each target's sources.

    .. math:: y_i = \sum_{e \in N(i)} w_e \, x_{\text{source}(e)}

    The sizes of ``weight`` after the first are those of ``x`` after the first, as far as they go, and the weight is
    constant over the sizes of ``x`` that remain:

    ============  ==============  ========================
    ``x``         ``weight``      meaning
    ============  ==============  ========================
    ``[Ns, ...]``   None            plain sum
    ``[Ns, ...]``   ``[E]``           one weight per edge
    ``[Ns, H, C]``  ``[E, H]``        one weight per head
    ``[Ns, C]``     ``[E, C]``        one weight per channel
    ============  ==============  ========================

    Any other shape is an error; nothing is broadcast by guessing.

    Args:
        x: ``[Ns, ...]`` floating-point features of the sources.
        weight: as above, in the caller's order of the edges.
        nbr: the edges.

    Returns:
        ``[N, ...]`` in the promoted dtype of ``x`` and ``weight``; 16-bit input is accumulated in float32. A target
        without edges gets 0.

    Raises:
        ShapeError: if a shape, dtype or device does not fit.

    Cost: O(E C) time. No ``[E, C]`` tensor is made, forward or backward, unless ``weight`` is one.

    Example:
        >>> import torch
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 2, 0], [0, 0, 2]]), num_targets=3)
        >>> gather_scatter(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1.0, 10.0, 100.0]), nbr).flatten()
        tensor([ 32.,   0., 100.])
    """
    check_type("nbr", nbr, Neighborhood)
    check_rows("x", x, nbr.num_sources, "Ns", nbr)
    if weight is not None:
        check_rows("weight", weight, nbr.num_edges, "E", nbr)
        if weight.ndim > x.ndim or weight.shape[1:] != x.shape[1 : weight.ndim]:
            raise ShapeError(
                "weight",
                f"shape {tuple(weight.shape)}",
                f"[E] followed by the first sizes of x after Ns; x has shape {tuple(x.shape)}",
                "A trailing size of 1 is not broadcast: squeeze it." if weight.shape[-1] == 1 else "",
            )
    dtype = compute_dtype(x, weight)
    chosen = choose("gather_scatter", x.to(dtype))
    work = working_dtype(chosen, dtype)
    x, weight = x.to(work), None if weight is None else weight.to(work)
    if chosen == "reference":
        return reference.gather_scatter(x, weight, nbr.row_ptr, nbr.source, nbr.target, nbr.edge_id).to(dtype)
    leading = 1 if weight is None else weight.ndim
    heads, channels = math.prod(x.shape[1:leading]), math.prod(x.shape[leading:])
    rows = x.reshape(nbr.num_sources, heads, channels)
    factors = None if weight is None else weight.reshape(nbr.num_edges, heads)
    y = weighted_sum(rows, factors, *_pointers(nbr), *_transposed_pointers(nbr, x))
    return y.view(nbr.num_targets, *x.shape[1:]).to(dtype)


def gather_dot(x: Tensor, y: Tensor, nbr: Neighborhood) -> Tensor:
    r"""Dot product of each edge's source row with its target row, head by head: scores of attention on edges.

    .. math:: w_e^h = x_{\text{source}(e)}^h \cdot y_{\text{target}(e)}^h

    Args:
        x: ``[Ns, ..., C]`` floating-point rows of the sources; the sizes between are those of ``y``.
        y: ``[N, ..., C]`` rows of the targets.
        nbr: the edges.

    Returns:
        ``[E, ...]`` in the caller's order of the edges and the promoted dtype; 16-bit input is computed in float32.

    Raises:
        ShapeError: if a shape, dtype or device does not fit.

    Cost: O(E C) time per head. No ``[E, C]`` tensor is made, forward or backward.

    Example:
        >>> import torch
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 0], [0, 1]]), num_targets=2)
        >>> gather_dot(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), nbr)
        tensor([3., 2.])
    """
    check_type("nbr", nbr, Neighborhood)
    check_rows("x", x, nbr.num_sources, "Ns", nbr)
    check_rows("y", y, nbr.num_targets, "N", nbr)
    if x.ndim < 2 or x.shape[1:] != y.shape[1:]:
        raise ShapeError("y", f"shape {tuple(y.shape)}", f"[N, ..., C] with sizes after N as in x, {tuple(x.shape)}")
    dtype = compute_dtype(x, y)
    chosen = choose("gather_dot", x.to(dtype))
    work = working_dtype(chosen, dtype)
    x, y = x.to(work), y.to(work)
    if chosen == "reference":
        return reference.gather_dot(x, y, *(nbr.to_caller_order(end) for end in (nbr.source, nbr.target))).to(dtype)
    heads = math.prod(x.shape[1:-1])
    rows = (t.reshape(t.shape[0], heads, t.shape[-1]) for t in (x, y))
    dots = edge_dot(*rows, *_pointers(nbr), *_transposed_pointers(nbr, x))
    return dots.view(nbr.num_edges, *x.shape[1:-1]).to(dtype)


def _pointers(nbr: Neighborhood) -> tuple[Tensor, Tensor, Tensor]:
    return nbr.row_ptr, nbr.source, nbr.edge_id


def _transposed_pointers(nbr: Neighborhood, x: Tensor) -> tuple[Tensor | None, ...]:
    """The pointers of the graph with its edges turned round, if the gradient of ``x`` will need them."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return None, None, None
    return _pointers(nbr.transposed)


@operation
def weighted_sum(
    x: Tensor,
    weight: Tensor | None,
    ptr: Tensor,
    other: Tensor,
    edge_id: Tensor,
    ptr_t: Tensor | None,
    other_t: Tensor | None,
    edge_id_t: Tensor | None,
) -> Tensor:
    """``y_i = sum_e w_e x[other_e]`` over the edges of each row, ``x [R, H, C]``, ``w [E, H] -> [N, H, C]``.

    Rows of edges are ``ptr [N+1]``; the edge at position p leads to ``x[other[p]]`` and has the weight
    ``w[edge_id[p]]``. The same with ``_t`` for the edges turned round, grouped by the rows of ``x``: only the gradient
    of ``x`` needs them. Bilinear: the gradients are `weighted_sum` over the turned edges and `edge_dot`, to any order.
    """
    return x.new_empty(ptr.shape[0] - 1, x.shape[1], x.shape[2])


@operation
def edge_dot(
    x: Tensor,
    y: Tensor,
    ptr: Tensor,
    other: Tensor,
    edge_id: Tensor,
    ptr_t: Tensor | None,
    other_t: Tensor | None,
    edge_id_t: Tensor | None,
) -> Tensor:
    """``w_e = x[other_e] . y[row_e]`` for each edge and head, ``x [R, H, C]``, ``y [N, H, C] -> [E, H]``."""
    return x.new_empty(edge_id.shape[0], x.shape[1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _weighted_sum_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, *pointers = ctx.saved_tensors
    turned = (*pointers[3:], *pointers[:3])
    grad_x = weighted_sum(grad, weight, *turned) if ctx.needs_input_grad[0] else None
    grad_weight = edge_dot(x, grad, *pointers) if ctx.needs_input_grad[1] else None
    return grad_x, grad_weight, *[None] * 6


def _edge_dot_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, y, *pointers = ctx.saved_tensors
    turned = (*pointers[3:], *pointers[:3])
    grad_x = weighted_sum(y, grad, *turned) if ctx.needs_input_grad[0] else None
    grad_y = weighted_sum(x, grad, *pointers) if ctx.needs_input_grad[1] else None
    return grad_x, grad_y, *[None] * 6


weighted_sum.register_autograd(_weighted_sum_backward, setup_context=_save)
edge_dot.register_autograd(_edge_dot_backward, setup_context=_save)
