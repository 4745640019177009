"""One table-driven product for Clebsch-Gordan, Clifford and Cartesian tensors."""

from typing import Any

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels._checks import check_rows, check_type
from geoattn.kernels._dispatch import choose, compute_dtype, working_dtype
from geoattn.kernels._operation import operation
from geoattn.kernels.neighborhood import Neighborhood
from geoattn.kernels.sparse_bilinear import reference
from geoattn.kernels.sparse_bilinear._slots import Z, empty_result
from geoattn.kernels.sparse_bilinear.table import BilinearTable


def sparse_bilinear(
    x: Tensor, y: Tensor, table: BilinearTable, weight: Tensor | None = None, nbr: Neighborhood | None = None
) -> Tensor:
    r"""Bilinear product of x and y with the coefficients of a table, each path of it weighted.

    .. math:: z_{n k c} = \sum_t v_t \, x_{n i_t c} \, y_{n j_t [c]} \, w_{n p_t c}

    The sum runs over the rows t = (i, j, k, p, v) of the table. With ``nbr``, the product is that of each edge e with
    x of its source, summed over the edges of each target:

    .. math:: z_{i k c} = \sum_{e \in N(i)} \sum_t v_t \, x_{\text{source}(e) i_t c} \, y_{e j_t [c]} \, w_{e p_t c}

    Args:
        x: ``[E, I, C]``; with ``nbr`` ``[Ns, I, C]``, a row per source.
        y: ``[E, J]``, the same for all channels, or ``[E, J, C]``; with ``nbr`` in the caller's order of the edges.
        table: the coefficients, with sizes (I, J, K, P).
        weight: ``[E, P, C]`` as ``y``, the weight of each path; 1 if not given. Attention weights enter here.
        nbr: the edges. Without it the rows of x, y and weight belong together one by one.

    Returns:
        ``[E, K, C]``, with ``nbr`` ``[N, K, C]``, in the promoted dtype of x, y and weight; 16-bit input is accumulated
        in float32. A target without edges gets 0.

    Raises:
        ShapeError: if a shape, dtype or device does not fit.

    Cost: O(E T C) time for T coefficients.

    Example:
        >>> import torch
        >>> cross = torch.zeros(3, 3, 3)
        >>> cross[0, 1, 2] = cross[1, 2, 0] = cross[2, 0, 1] = 1
        >>> table = BilinearTable.from_dense(cross - cross.transpose(0, 1))
        >>> sparse_bilinear(torch.tensor([[[1.0], [0], [0]]]), torch.tensor([[0.0, 1, 0]]), table).flatten()
        tensor([0., 0., 1.])
    """
    _check(x, y, table, weight, nbr)
    dtype = compute_dtype(x, y, weight)
    chosen = choose("sparse_bilinear", x.to(dtype))
    working = working_dtype(chosen, dtype)
    x, y, weight = x.to(working), y.to(working), None if weight is None else weight.to(working)
    if chosen == "reference":
        return _reference(x, y, table, weight, nbr).to(dtype)
    pointers: tuple[Tensor | None, ...] = (None,) * 6
    if nbr is not None:
        turned = nbr.transposed if torch.is_grad_enabled() and x.requires_grad else None
        pointers = (*_pointers(nbr), *((None,) * 3 if turned is None else _pointers(turned)))
    plan = table.plan(x.device, working)
    return contract(Z, x, y, weight, None, y.ndim == 2, *plan, table.layout, *pointers).to(dtype)


def _pointers(nbr: Neighborhood) -> tuple[Tensor, Tensor, Tensor]:
    return nbr.row_ptr, nbr.source, nbr.edge_id


def _reference(x: Tensor, y: Tensor, table: BilinearTable, weight: Tensor | None, nbr: Neighborhood | None) -> Tensor:
    indices = (table.index_x, table.index_y, table.index_out, table.path)
    rows = (*(index.to(x.device) for index in indices), table.value.to(x.device, x.dtype))
    if nbr is None:
        return reference.sparse_bilinear(x, y, rows, weight, table.sizes[2])
    ends = nbr.to_caller_order(nbr.source), nbr.to_caller_order(nbr.target), nbr.num_targets
    return reference.sparse_bilinear_sum(x, y, rows, weight, table.sizes[2], *ends)


def _check(x: Tensor, y: Tensor, table: BilinearTable, weight: Tensor | None, nbr: Neighborhood | None) -> None:
    check_type("table", table, BilinearTable)
    if nbr is not None:
        check_type("nbr", nbr, Neighborhood)
    for name, value in (("x", x), ("y", y), ("weight", weight)):
        if value is not None or name != "weight":
            check_type(name, value, Tensor)
    size_x, size_y, _, paths = table.sizes
    if x.ndim != 3 or x.shape[1] != size_x:
        expected = f"[{'E' if nbr is None else 'Ns'}, {size_x}, C] for this table"
        raise ShapeError("x", f"shape {tuple(x.shape)}", expected)
    edges = x.shape[0] if nbr is None else nbr.num_edges
    channels = x.shape[2]
    if nbr is not None:
        check_rows("x", x, nbr.num_sources, "Ns", nbr)
    if tuple(y.shape) not in ((edges, size_y), (edges, size_y, channels)):
        raise ShapeError("y", f"shape {tuple(y.shape)}", f"{(edges, size_y)} or {(edges, size_y, channels)}")
    if weight is not None and tuple(weight.shape) != (edges, paths, channels):
        raise ShapeError("weight", f"shape {tuple(weight.shape)}", f"{(edges, paths, channels)}")
    for name, value in (("x", x), ("y", y), ("weight", weight)):
        if value is None:
            continue
        if not value.is_floating_point():
            raise ShapeError(name, f"dtype {value.dtype}", "a floating-point dtype", "Call .float() on it.")
        if value.device != x.device:
            raise ShapeError(name, f"device {value.device}", f"{x.device}, where x is")


@operation
def contract(
    slot: int,
    x: Tensor | None,
    y: Tensor | None,
    weight: Tensor | None,
    z: Tensor | None,
    shared: bool,
    plan: Tensor,
    value: Tensor,
    layout: list[int],
    ptr: Tensor | None,
    other: Tensor | None,
    edge_id: Tensor | None,
    ptr_t: Tensor | None,
    other_t: Tensor | None,
    edge_id_t: Tensor | None,
) -> Tensor:
    """All operands of the multilinear form but the one of ``slot`` contracted, in the shape of that one.

    With ``slot = Z`` this is the product, with another the gradient of that operand: gradients of any order are
    contractions again. The operand of ``slot`` is None, and so is a weight of ones.

    Args:
        slot: as in ``_slots.py``, where the form is.
        x, y, weight, z: the operands.
        shared: whether y is the same for all channels.
        plan, value, layout: those of the table.
        ptr, other, edge_id: the edges by target, None if rows belong together one by one.
        ptr_t, other_t, edge_id_t: the edges turned round, by source; only ``slot = X`` needs them.
    """
    return empty_result(slot, (x, y, weight, z), shared, layout, (ptr, other, edge_id, ptr_t, other_t, edge_id_t))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.slot, *operands, ctx.shared, plan, value, ctx.layout = inputs[:9]
    ctx.save_for_backward(*operands, plan, value, *inputs[9:])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    *operands, plan, value = ctx.saved_tensors[:6]
    operands[ctx.slot] = grad
    grads: list[Tensor | None] = [None] * 4
    for slot in range(4):
        if slot != ctx.slot and ctx.needs_input_grad[1 + slot]:
            others = [None if at == slot else operand for at, operand in enumerate(operands)]
            grads[slot] = contract(slot, *others, ctx.shared, plan, value, ctx.layout, *ctx.saved_tensors[6:])
    return None, *grads, *[None] * 10


contract.register_autograd(_backward, setup_context=_save)
