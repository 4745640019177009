"""One table-driven product for Clebsch-Gordan, Clifford and Cartesian tensors."""

from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels._checks import check_rows
from geoattn.kernels._dispatch import choose, compute_dtype, working_dtype
from geoattn.kernels.neighborhood import Neighborhood
from geoattn.kernels.sparse_bilinear import reference
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
    unwritten = dict.fromkeys(("numba", "triton"), "not written yet")
    working = working_dtype(choose("sparse_bilinear", x.to(dtype), unwritten), dtype)
    rows = (table.index_x, table.index_y, table.index_out, table.path)
    coefficients = (*(index.to(x.device) for index in rows), table.value.to(x.device, working))
    weight = None if weight is None else weight.to(working)
    if nbr is None:
        return reference.sparse_bilinear(x.to(working), y.to(working), *coefficients, weight, table.sizes[2]).to(dtype)
    gathered = x.to(working).index_select(0, nbr.to_caller_order(nbr.source))
    z = reference.sparse_bilinear(gathered, y.to(working), *coefficients, weight, table.sizes[2])
    return z.new_zeros(nbr.num_targets, *z.shape[1:]).index_add(0, nbr.to_caller_order(nbr.target), z).to(dtype)


def _check(x: Tensor, y: Tensor, table: BilinearTable, weight: Tensor | None, nbr: Neighborhood | None) -> None:
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
