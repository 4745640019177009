"""Sum of outer products over each target's edges, and products with a matrix per target: the definitions."""

from torch import Tensor


def segment_outer(u: Tensor, t: Tensor, target: Tensor, num_targets: int) -> Tensor:
    """``sum_e u_e (x) t_e`` over the edges of each target, ``[N, U, T]``; all in the caller's order of the edges."""
    products = u[:, :, None] * t[:, None, :]
    return products.new_zeros(num_targets, *products.shape[1:]).index_add(0, target, products)


def segment_matmul(u: Tensor, z: Tensor, target: Tensor) -> Tensor:
    """``u_e^T z[target_e]``, ``[E, T]``; all in the caller's order of the edges."""
    return (u[:, :, None] * z[target]).sum(1)
