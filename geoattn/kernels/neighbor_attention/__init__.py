"""Softmax attention of each target over its neighbours."""

from typing import Any, Literal

import torch
from torch import Tensor

from geoattn.errors import ShapeError, nearest_hint
from geoattn.kernels._checks import check_rows, check_type
from geoattn.kernels._dispatch import choose, compute_dtype, working_dtype
from geoattn.kernels._operation import operation
from geoattn.kernels.neighbor_attention import reference
from geoattn.kernels.neighborhood import Neighborhood


def neighbor_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    nbr: Neighborhood,
    bias: Tensor | None = None,
    scale: float | None = None,
    kv: Literal["node", "edge"] = "node",
) -> Tensor:
    r"""Softmax attention of each target over the edges that arrive there, head by head.

    .. math::
        y_i = \sum_{e \in N(i)} p_e v_e, \qquad
        p_e = \frac{\exp s_e}{\sum_{e' \in N(i)} \exp s_{e'}}, \qquad
        s_e = \text{scale} \; q_i \cdot k_e + b_e

    With ``kv="node"``, :math:`k_e = k_{\text{source}(e)}` and likewise v.

    Args:
        q: ``[N, H, D]`` queries of the targets.
        k: keys: ``[Ns, H, D]`` of the sources or, with ``kv="edge"``, ``[E, H, D]`` of the edges.
        v: values: ``[Ns, H, Dv]`` or ``[E, H, Dv]``.
        nbr: the edges.
        bias: ``[E, H]``, or ``[E, 1]`` for all heads alike, added to the logits. -inf masks an edge for a head.
        scale: factor of the dot products; None: :math:`D^{-1/2}`.
        kv: whether k and v belong to source nodes or to edges. Edge tensors are in the caller's order of the edges.

    Returns:
        ``[N, H, Dv]`` in the promoted dtype of the arguments; 16-bit input is accumulated in float32. A target without
        edges, or with every edge masked, gets exactly 0 and passes no gradient.

    Raises:
        ShapeError: if a shape, dtype or device does not fit.

    Cost: O(E H (D + Dv)) time. With ``kv="node"`` no ``[E, H, D]`` tensor is made, forward or backward: for the
    gradient the output and one number per target and head are kept, and the dot products are computed again.

    Symmetry: the order of the edges does not matter, beyond rounding; invariant inputs give an invariant output.

    Paper: Vaswani et al., Attention Is All You Need, 2017, with the graph's edges for all pairs.

    Example:
        >>> import torch
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 2, 0], [0, 0, 2]]), num_targets=3)
        >>> x = torch.tensor([[[1.0]], [[2.0]], [[2.0]]])
        >>> neighbor_attention(x, x, x, nbr).flatten()
        tensor([2., 0., 1.])
    """
    _check(q, k, v, nbr, bias, kv)
    scale = q.shape[2] ** -0.5 if scale is None else float(scale)
    dtype = compute_dtype(q, k, v, bias)
    chosen = choose("neighbor_attention", q.to(dtype))
    work = working_dtype(chosen, dtype)
    q, k, v, bias = q.to(work), k.to(work), v.to(work), None if bias is None else bias.to(work)
    edges = (nbr.row_ptr, nbr.source, nbr.edge_id)
    if chosen == "reference":
        return reference.neighbor_attention(q, k, v, bias, *edges, scale, kv).to(dtype)
    turned: tuple[Tensor | None, ...] = (None, None, None)
    if kv == "node" and torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
        turned = (nbr.transposed.row_ptr, nbr.transposed.source, nbr.transposed.edge_id)
    out, _ = attention_rows(q, k, v, bias, *edges, *turned, scale, kv)
    return out.to(dtype)


def _check(q: Tensor, k: Tensor, v: Tensor, nbr: Neighborhood, bias: Tensor | None, kv: str) -> None:
    if kv not in ("node", "edge"):
        raise ShapeError("kv", repr(kv), "'node' or 'edge'", nearest_hint(str(kv), ("node", "edge")))
    check_type("nbr", nbr, Neighborhood)
    rows, name = (nbr.num_sources, "Ns") if kv == "node" else (nbr.num_edges, "E")
    check_rows("q", q, nbr.num_targets, "N", nbr)
    check_rows("k", k, rows, name, nbr)
    check_rows("v", v, rows, name, nbr)
    if q.ndim != 3 or q.shape[2] == 0:
        raise ShapeError("q", f"shape {tuple(q.shape)}", "[N, H, D] with D at least 1")
    if k.ndim != 3 or k.shape[1:] != q.shape[1:]:
        raise ShapeError("k", f"shape {tuple(k.shape)}", f"[{name}, H, D] with H, D as in q, {tuple(q.shape)}")
    if v.ndim != 3 or v.shape[1] != q.shape[1]:
        raise ShapeError("v", f"shape {tuple(v.shape)}", f"[{name}, H, Dv] with H as in q, {tuple(q.shape)}")
    if bias is not None:
        check_rows("bias", bias, nbr.num_edges, "E", nbr)
        if bias.ndim != 2 or bias.shape[1] not in (1, q.shape[1]):
            raise ShapeError("bias", f"shape {tuple(bias.shape)}", f"[E, H] or [E, 1] with H as in q, {tuple(q.shape)}")


@operation(strided=True)
def attention_rows(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    row_ptr: Tensor,
    source: Tensor,
    edge_id: Tensor,
    row_ptr_t: Tensor | None,
    source_t: Tensor | None,
    edge_id_t: Tensor | None,
    scale: float,
    kv: str,
) -> tuple[Tensor, Tensor]:
    """The output ``[N, H, Dv]`` and the log-sum-exp of each target's logits ``[N, H]``, 0 where there are none.

    The edges are in CSR order; those with ``_t`` are the transposed graph's, which only the gradients of k and v per
    node need.
    """
    lse = q.new_empty(q.shape[0], q.shape[1], dtype=torch.promote_types(q.dtype, torch.float32))
    return q.new_empty(q.shape[0], q.shape[1], v.shape[2]), lse


@operation(strided=True)
def attention_rows_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    row_ptr: Tensor,
    source: Tensor,
    edge_id: Tensor,
    row_ptr_t: Tensor | None,
    source_t: Tensor | None,
    edge_id_t: Tensor | None,
    scale: float,
    kv: str,
    out: Tensor,
    lse: Tensor,
    want: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and bias, as far as ``want`` asks for them; the others are empty."""
    inputs = zip((q, k, v, bias), want, strict=True)
    grad_q, grad_k, grad_v, grad_bias = (
        q.new_empty((0, 1) if x is None or not wanted else x.shape) for x, wanted in inputs
    )
    return grad_q, grad_k, grad_v, grad_bias


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale, ctx.kv = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, grad_lse: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, out, lse = ctx.saved_tensors
    q, k, v, bias, row_ptr, source, edge_id, *_ = inputs
    needed = list(ctx.needs_input_grad[:4])
    if torch.is_grad_enabled():  # a second derivative is wanted: through the reference
        again = reference.neighbor_attention(q, k, v, bias, row_ptr, source, edge_id, ctx.scale, ctx.kv)
        wanted = [x for x, need in zip((q, k, v, bias), needed, strict=True) if need]
        found = iter(torch.autograd.grad(again, wanted, grad, create_graph=True))
        return *(next(found) if need else None for need in needed), *[None] * 8
    grads = attention_rows_backward(grad, *inputs, ctx.scale, ctx.kv, out, lse, needed)
    return *(g if need else None for g, need in zip(grads, needed, strict=True)), *[None] * 8


attention_rows.register_autograd(_backward, setup_context=_save)
