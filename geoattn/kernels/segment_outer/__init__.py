"""Per target the sum of outer products of its edges' rows, and the matrix of each target times its edges' rows."""

from typing import Any

from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels._checks import check_rows, check_type
from geoattn.kernels._dispatch import choose, compute_dtype, working_dtype
from geoattn.kernels._operation import operation
from geoattn.kernels.neighborhood import Neighborhood
from geoattn.kernels.segment_outer import reference


def segment_outer(u: Tensor, t: Tensor, nbr: Neighborhood) -> Tensor:
    r"""Sum of the outer products of two rows per edge, over the edges of each target (a grouped matrix product).

    .. math:: Z_i = \sum_{e \in N(i)} u_e \otimes t_e

    Args:
        u: ``[E, U]``, in the caller's order of the edges.
        t: ``[E, T]``, likewise.
        nbr: the edges.

    Returns:
        ``[N, U, T]`` in the promoted dtype; 16-bit input is accumulated in float32. A target without edges gets 0.

    Raises:
        ShapeError: if a shape, dtype or device does not fit.

    Cost: O(E U T) time.

    Example:
        >>> import torch
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 0], [0, 0]]), num_targets=2)
        >>> segment_outer(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0, 0], [0, 10]]), nbr).tolist()
        [[[1.0, 20.0]], [[0.0, 0.0]]]
    """
    check_type("nbr", nbr, Neighborhood)
    for name, value in (("u", u), ("t", t)):
        check_rows(name, value, nbr.num_edges, "E", nbr)
        if value.ndim != 2:
            raise ShapeError(name, f"shape {tuple(value.shape)}", "[E, number]")
    dtype = compute_dtype(u, t)
    chosen = choose("segment_outer", u.to(dtype))
    working = working_dtype(chosen, dtype)
    u, t = u.to(working), t.to(working)
    if chosen == "reference":
        return reference.segment_outer(u, t, nbr.to_caller_order(nbr.target), nbr.num_targets).to(dtype)
    return outer_rows(u, t, nbr.row_ptr, nbr.edge_id).to(dtype)


def segment_matmul(u: Tensor, z: Tensor, nbr: Neighborhood) -> Tensor:
    r"""Each edge's row times the matrix of its target (a grouped matrix product).

    .. math:: y_e = u_e^\top Z_{\text{target}(e)}

    With `segment_outer` this is linear attention over groups of rows: :math:`Z = \sum_e k_e \otimes v_e`, then
    :math:`q_e^\top Z`, without a matrix per edge.

    Args:
        u: ``[E, U]``, in the caller's order of the edges.
        z: ``[N, U, T]``, a matrix per target.
        nbr: the edges.

    Returns:
        ``[E, T]`` in the caller's order and the promoted dtype; 16-bit input is accumulated in float32.

    Raises:
        ShapeError: if a shape, dtype or device does not fit.

    Cost: O(E U T) time, O(E T) memory.

    Example:
        >>> import torch
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 0], [0, 1]]), num_targets=2)
        >>> segment_matmul(torch.tensor([[1.0], [2.0]]), torch.tensor([[[1.0, 10.0]], [[3.0, 4.0]]]), nbr).tolist()
        [[1.0, 10.0], [6.0, 8.0]]
    """
    check_type("nbr", nbr, Neighborhood)
    check_rows("u", u, nbr.num_edges, "E", nbr)
    check_rows("z", z, nbr.num_targets, "N", nbr)
    if u.ndim != 2:
        raise ShapeError("u", f"shape {tuple(u.shape)}", "[E, U]")
    if z.ndim != 3 or z.shape[1] != u.shape[1]:
        raise ShapeError("z", f"shape {tuple(z.shape)}", f"[N, U = {u.shape[1]}, T]")
    dtype = compute_dtype(u, z)
    chosen = choose("segment_matmul", u.to(dtype))
    working = working_dtype(chosen, dtype)
    u, z = u.to(working), z.to(working)
    if chosen == "reference":
        return reference.segment_matmul(u, z, nbr.to_caller_order(nbr.target)).to(dtype)
    return matrix_rows(z, u, True, nbr.row_ptr, nbr.edge_id).to(dtype)


@operation
def outer_rows(u: Tensor, t: Tensor, ptr: Tensor, edge_id: Tensor) -> Tensor:
    """``z_i = sum_p u[edge_id[p]] (x) t[edge_id[p]]`` over the positions p of row i, ``[N, U, T]``.

    Bilinear: its gradients are `matrix_rows`, whose gradients are `outer_rows` and `matrix_rows`, to any order.
    """
    return u.new_empty(ptr.shape[0] - 1, u.shape[1], t.shape[1])


@operation
def matrix_rows(z: Tensor, v: Tensor, transposed: bool, ptr: Tensor, edge_id: Tensor) -> Tensor:
    """``z_i v[edge_id[p]]``, or with the transpose of z_i, for each position p of row i; as ``v`` in caller's order.

    ``z [N, U, T]`` and ``v [E, T] -> [E, U]``; transposed ``v [E, U] -> [E, T]``.
    """
    return v.new_empty(v.shape[0], z.shape[2 if transposed else 1])


def _save_outer(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _outer_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    u, t, *pointers = ctx.saved_tensors
    grad_u = matrix_rows(grad, t, False, *pointers) if ctx.needs_input_grad[0] else None
    grad_t = matrix_rows(grad, u, True, *pointers) if ctx.needs_input_grad[1] else None
    return grad_u, grad_t, None, None


def _save_matrix(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    z, v, ctx.transposed, *pointers = inputs
    ctx.save_for_backward(z, v, *pointers)


def _matrix_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    z, v, *pointers = ctx.saved_tensors
    left, right = (v, grad) if ctx.transposed else (grad, v)
    grad_z = outer_rows(left, right, *pointers) if ctx.needs_input_grad[0] else None
    grad_v = matrix_rows(z, grad, not ctx.transposed, *pointers) if ctx.needs_input_grad[1] else None
    return grad_z, grad_v, None, None, None


outer_rows.register_autograd(_outer_backward, setup_context=_save_outer)
matrix_rows.register_autograd(_matrix_backward, setup_context=_save_matrix)
