"""The first layer of an edge network, fused: gather both ends, add the edge's part, SiLU."""

from typing import Any

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels._checks import check_rows, check_type
from geoattn.kernels._dispatch import choose, compute_dtype, working_dtype
from geoattn.kernels._operation import operation
from geoattn.kernels.gather_silu import reference
from geoattn.kernels.neighborhood import Neighborhood


def gather_silu(at_target: Tensor, at_source: Tensor, at_edge: Tensor, nbr: Neighborhood) -> Tensor:
    r"""First hidden layer of a network on edges whose linear map was split into node and edge parts.

    .. math:: y_e = \operatorname{silu}(a_{i(e)} + b_{j(e)} + c_e)

    Equal to a linear layer and SiLU on the concatenation :math:`[h_i, h_j, r_e]` when a, b, c are that layer's parts;
    the concatenation, the gathered rows and the sum are never stored.

    Args:
        at_target: ``[N, C]``, a.
        at_source: ``[Ns, C]``, b.
        at_edge: ``[E, C]``, c, in the caller's order.
        nbr: the edges.

    Returns:
        ``[E, C]`` in the caller's order.

    Raises:
        ShapeError: if a part does not fit the edges or the parts differ in width.

    Cost: O(E C) time; the gradient recomputes the sum instead of storing it.

    Example:
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1], [0]]), num_targets=2)
        >>> gather_silu(torch.zeros(2, 1), torch.ones(2, 1), torch.ones(1, 1), nbr)
        tensor([[1.7616]])
    """
    check_type("nbr", nbr, Neighborhood)
    check_rows("at_target", at_target, nbr.num_targets, "N", nbr)
    check_rows("at_source", at_source, nbr.num_sources, "Ns", nbr)
    check_rows("at_edge", at_edge, nbr.num_edges, "E", nbr)
    for name, part in (("at_target", at_target), ("at_source", at_source)):
        if part.ndim != 2 or at_edge.ndim != 2 or part.shape[1] != at_edge.shape[1]:
            raise ShapeError(name, f"shape {tuple(part.shape)}", f"[., C] as at_edge, {tuple(at_edge.shape)}")
    dtype = compute_dtype(at_target, at_source, at_edge)
    chosen = choose("gather_silu", at_edge.to(dtype))
    working = working_dtype(chosen, dtype)
    a, b, c = at_target.to(working), at_source.to(working), nbr.to_csr_order(at_edge).to(working)
    if chosen == "reference":
        out = reference.gather_silu(a, b, c, nbr.source, nbr.target)
    else:
        wants_source = torch.is_grad_enabled() and b.requires_grad
        by_source = (nbr.source_ptr, nbr.source_order) if wants_source else (None, None)
        out = gather_add_silu(a, b, c, nbr.row_ptr, nbr.source, nbr.target, *by_source)
    return nbr.to_caller_order(out.to(dtype))


@operation
def gather_add_silu(
    at_target: Tensor,
    at_source: Tensor,
    at_edge: Tensor,
    row_ptr: Tensor,
    source: Tensor,
    target: Tensor,
    source_ptr: Tensor | None,
    source_order: Tensor | None,
) -> Tensor:
    """``silu(at_target[target] + at_source[source] + at_edge)``, ``[E, C]``, edges in CSR order.

    The pointers by source are needed by the gradient of ``at_source`` alone.
    """
    return torch.empty_like(at_edge)


@operation
def gather_add_silu_backward(
    grad: Tensor,
    at_target: Tensor,
    at_source: Tensor,
    at_edge: Tensor,
    row_ptr: Tensor,
    source: Tensor,
    source_ptr: Tensor | None,
    source_order: Tensor | None,
    want_source: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the three parts, ``[N, C]``, ``[Ns, C]`` (empty unless wanted), ``[E, C]``."""
    grad_source = torch.empty_like(at_source if want_source else at_source[:0])
    return torch.empty_like(at_target), grad_source, torch.empty_like(at_edge)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    at_target, at_source, at_edge, row_ptr, source, target, *by_source = ctx.saved_tensors
    parts, needed = (at_target, at_source, at_edge), ctx.needs_input_grad[:3]
    if torch.is_grad_enabled():  # a second derivative is wanted: through the reference
        out = reference.gather_silu(*parts, source, target)
        wanted = [part for part, need in zip(parts, needed, strict=True) if need]
        found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
        return *(next(found) if need else None for need in needed), *[None] * 5
    grads = gather_add_silu_backward(grad, *parts, row_ptr, source, *by_source, needed[1])
    return *(part if need else None for part, need in zip(grads, needed, strict=True)), *[None] * 5


gather_add_silu.register_autograd(_backward, setup_context=_setup_context)
