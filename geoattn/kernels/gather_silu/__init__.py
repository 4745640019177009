"""The first layer of an edge network, fused: gather both ends, add the edge's part, SiLU."""

from __future__ import annotations

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels._checks import check_rows
from geoattn.kernels._dispatch import choose, compute_dtype, working_dtype
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
    check_rows("at_target", at_target, nbr.num_targets, "N", nbr)
    check_rows("at_source", at_source, nbr.num_sources, "Ns", nbr)
    check_rows("at_edge", at_edge, nbr.num_edges, "E", nbr)
    for name, part in (("at_target", at_target), ("at_source", at_source)):
        if part.ndim != 2 or at_edge.ndim != 2 or part.shape[1] != at_edge.shape[1]:
            raise ShapeError(name, f"shape {tuple(part.shape)}", f"[., C] as at_edge, {tuple(at_edge.shape)}")
    dtype = compute_dtype(at_target, at_source, at_edge)
    chosen = choose("gather_silu", at_edge.to(dtype))
    working = working_dtype(chosen, dtype)
    parts = [part.to(working) for part in (at_target, at_source, nbr.to_csr_order(at_edge))]
    if chosen == "reference":
        out = reference.gather_silu(*parts, nbr.source, nbr.target)
    else:
        wants_source = torch.is_grad_enabled() and parts[1].requires_grad
        by_source = (nbr.source_ptr, nbr.source_order) if wants_source else (nbr.row_ptr[:0], nbr.row_ptr[:0])
        parts = [part.contiguous() for part in parts]
        out = _gather_silu(*parts, nbr.row_ptr, nbr.source, nbr.target, *by_source)
    return nbr.to_caller_order(out.to(dtype))


@torch.library.custom_op("geoattn::gather_silu", mutates_args=(), device_types="cpu")
def _gather_silu(
    at_target: Tensor,
    at_source: Tensor,
    at_edge: Tensor,
    row_ptr: Tensor,
    source: Tensor,
    target: Tensor,
    source_ptr: Tensor,
    source_order: Tensor,
) -> Tensor:
    from geoattn.kernels.gather_silu import cpu

    return cpu.gather_silu(at_target, at_source, at_edge, row_ptr, source)


@_gather_silu.register_kernel("cuda")
def _(at_target, at_source, at_edge, row_ptr, source, target, source_ptr, source_order):  # type: ignore[no-untyped-def]
    from geoattn.kernels.gather_silu import cuda

    return cuda.gather_silu(at_target, at_source, at_edge, source, target)


@_gather_silu.register_fake
def _(at_target, at_source, at_edge, row_ptr, source, target, source_ptr, source_order):  # type: ignore[no-untyped-def]
    return torch.empty_like(at_edge)


@torch.library.custom_op("geoattn::gather_silu_backward", mutates_args=(), device_types="cpu")
def _gather_silu_backward(
    grad: Tensor,
    at_target: Tensor,
    at_source: Tensor,
    at_edge: Tensor,
    row_ptr: Tensor,
    source: Tensor,
    source_ptr: Tensor,
    source_order: Tensor,
    want_source: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    from geoattn.kernels.gather_silu import cpu

    return cpu.gather_silu_backward(
        grad, at_target, at_source, at_edge, row_ptr, source, source_ptr, source_order, want_source
    )


@_gather_silu_backward.register_kernel("cuda")
def _(grad, at_target, at_source, at_edge, row_ptr, source, source_ptr, source_order, want_source):  # type: ignore[no-untyped-def]
    from geoattn.kernels.gather_silu import cuda

    return cuda.gather_silu_backward(
        grad, at_target, at_source, at_edge, row_ptr, source, source_ptr, source_order, want_source
    )


@_gather_silu_backward.register_fake
def _(grad, at_target, at_source, at_edge, row_ptr, source, source_ptr, source_order, want_source):  # type: ignore[no-untyped-def]
    grad_source = torch.empty_like(at_source if want_source else at_source[:0])
    return torch.empty_like(at_target), grad_source, torch.empty_like(at_edge)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad):  # type: ignore[no-untyped-def]
    at_target, at_source, at_edge, row_ptr, source, target, source_ptr, source_order = ctx.saved_tensors
    parts, needed = (at_target, at_source, at_edge), ctx.needs_input_grad[:3]
    if torch.is_grad_enabled():  # a second derivative is wanted: through the reference
        out = reference.gather_silu(*parts, source, target)
        wanted = [part for part, need in zip(parts, needed, strict=True) if need]
        found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
        return (*(next(found) if need else None for need in needed), None, None, None, None, None)
    indices = (row_ptr, source, source_ptr, source_order)
    grads = _gather_silu_backward(grad.contiguous(), *parts, *indices, needed[1])
    return (*(part if need else None for part, need in zip(grads, needed, strict=True)), None, None, None, None, None)


_gather_silu.register_autograd(_backward, setup_context=_setup_context)
