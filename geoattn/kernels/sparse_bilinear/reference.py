"""The product that a table of coefficients describes: the definition."""

from torch import Tensor


def sparse_bilinear(x: Tensor, y: Tensor, rows: tuple[Tensor, ...], weight: Tensor | None, num_out: int) -> Tensor:
    """``z[n, k, c] = sum_t value_t x[n, i_t, c] y[n, j_t(, c)] weight[n, p_t, c]``, ``[n, K, C]``.

    ``rows`` are i, j, k, p and value, ``[T]`` each.
    """
    index_x, index_y, index_out, path, value = rows
    y = y if y.ndim == 3 else y[:, :, None]
    terms = value[:, None] * x[:, index_x] * y[:, index_y]
    if weight is not None:
        terms = terms * weight[:, path]
    return x.new_zeros(x.shape[0], num_out, x.shape[2]).index_add(1, index_out, terms)


def sparse_bilinear_sum(
    x: Tensor,
    y: Tensor,
    rows: tuple[Tensor, ...],
    weight: Tensor | None,
    num_out: int,
    source: Tensor,
    target: Tensor,
    num_targets: int,
) -> Tensor:
    """The same with x of each edge's source, summed over the edges of each target, ``[N, K, C]``."""
    z = sparse_bilinear(x.index_select(0, source), y, rows, weight, num_out)
    return z.new_zeros(num_targets, *z.shape[1:]).index_add(0, target, z)
