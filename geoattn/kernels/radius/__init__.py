"""`radius`: all neighbours within a distance, as a `Neighborhood`."""

import warnings

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels._dispatch import choose
from geoattn.kernels._operation import operation, uncompiled
from geoattn.kernels._search import check_count, check_points, squared_radius
from geoattn.kernels.knn import knn
from geoattn.kernels.neighborhood import Neighborhood
from geoattn.kernels.radius import reference

_warned = False


def radius(
    x: Tensor,
    y: Tensor | None = None,
    r: float | None = None,
    *,
    ptr_x: Tensor | None = None,
    ptr_y: Tensor | None = None,
    max_neighbors: int | None = None,
    loop: bool = False,
) -> Neighborhood:
    """All sources within ``r`` of each query, in its own graph: ``|y_i - x_j|^2 <= r^2``, inclusive.

    Squared distances follow the rule of :func:`geoattn.kernels.knn`, to the bit the same in all implementations;
    ``r`` is rounded to the coordinates' dtype and squared in it. No pair is dropped unless ``max_neighbors`` asks.

    Args:
        x: ``[N, D]`` sources.
        y: ``[M, D]`` queries, the targets of the edges; None: the points of ``x``.
        r: radius, in the unit of the coordinates; ``math.inf`` joins all pairs.
        ptr_x: ``[B+1]`` integers, where each graph begins in ``x``, and N; None: all points are one graph. Graphs may
            be empty. PyG calls it ``batch.ptr``.
        ptr_y: the same for ``y``; goes with ``ptr_x`` when ``y`` is given.
        max_neighbors: keep the nearest ones of each target, in the order of (squared distance, index). The first time
            in a process that this cuts something, a UserWarning says for how many targets. None: keep all.
        loop: whether a point is its own neighbour when ``y`` is None; it is left out by its index, so a coincident
            point stays. With ``y`` given no pair is left out.

    Returns:
        a Neighborhood of M targets and N sources whose edges stand, within each target, in the order of (squared
        distance, index); that is also the caller's order of its ``edge_index``. A point without neighbours is a target
        without edges. Indices carry no gradient: compute lengths from the positions (`geoattn.geometry.edges`).

    Raises:
        ShapeError: for shapes, dtypes, graphs or options that do not fit, and for nan or inf among the coordinates.

    Symmetry: where no distance is within rounding of ``r``, invariant to rotation, reflection and translation and
    equivariant to permutation.

    Cost: on the CPU O(N log N + E log E) by a k-d tree for sparse graphs of more than about 200 * 2^D points in D
    dimensions, else and on the GPU all pairs of a graph; O(E) memory. With ``max_neighbors`` that of
    :func:`geoattn.kernels.knn`, and O(M max_neighbors) memory. Under ``torch.compile`` the number of edges is unknown
    and the graph breaks here: build the neighbourhood outside the compiled model, or, without ``max_neighbors``, set
    ``torch._dynamo.config.capture_dynamic_output_shape_ops``.

    Example:
        >>> import torch
        >>> radius(torch.tensor([[0.0], [1.0], [3.0]]), r=1.0).edge_index.tolist()
        [[1, 0], [0, 1]]
    """
    if r is None or not r >= 0:
        raise ShapeError("r", str(r), "a radius of at least 0")
    if max_neighbors is not None:
        check_count("max_neighbors", max_neighbors)
        return _nearest(x, y, float(r), ptr_x, ptr_y, max_neighbors, loop)
    exclude_self = y is None and not loop
    x, y, ptr_x, ptr_y = check_points(x, y, ptr_x, ptr_y)
    refused = {"triton": "its kernel computes in float32"} if x.dtype == torch.float64 else {}
    search = reference.radius_search if choose("radius", x, refused) == "reference" else radius_search
    row_ptr, source, target = search(x, y, ptr_x, ptr_y, float(r), exclude_self)
    return _neighborhood(row_ptr, source, target, num_sources=x.shape[0])


@uncompiled  # the number of edges, and whether to warn, depend on the values
def _nearest(
    x: Tensor, y: Tensor | None, r: float, ptr_x: Tensor | None, ptr_y: Tensor | None, max_neighbors: int, loop: bool
) -> Neighborhood:
    """The nearest within ``r``, in memory that does not grow with the number of pairs that are cut."""
    idx, dist2 = knn(x, y, max(1, min(max_neighbors + 1, x.shape[0])), ptr_x=ptr_x, ptr_y=ptr_y, loop=loop)
    within = (idx >= 0) & (dist2 <= squared_radius(r, dist2.dtype))
    _warn_of_cut(int(within[:, max_neighbors:].sum()), len(idx), max_neighbors)
    within = within[:, :max_neighbors]
    target, place = within.nonzero(as_tuple=True)
    row_ptr = torch.cat([target.new_zeros(1), within.sum(1).cumsum(0)])
    return _neighborhood(row_ptr, idx[target, place], target, num_sources=x.shape[0])


def _warn_of_cut(cut: int, targets: int, max_neighbors: int) -> None:
    global _warned
    if cut == 0 or _warned:
        return
    _warned = True
    warnings.warn(
        f"radius: {cut} of {targets} points have more than max_neighbors={max_neighbors} neighbours within r; only "
        f"their nearest {max_neighbors} are kept. Raise max_neighbors to keep all (said once per process).",
        stacklevel=6,  # the caller of radius
    )


def _neighborhood(row_ptr: Tensor, source: Tensor, target: Tensor, num_sources: int) -> Neighborhood:
    return Neighborhood.from_csr(row_ptr, source, target, row_ptr.shape[0] - 1, num_sources)


@operation
def radius_search(
    x: Tensor, y: Tensor, ptr_x: Tensor | None, ptr_y: Tensor | None, r: float, exclude_self: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """``row_ptr [M+1]``, ``source [E]`` and ``target [E]`` of `radius`; ``ptr_y`` is given when ``ptr_x`` is."""
    row_ptr = x.new_empty(y.shape[0] + 1, dtype=torch.int64)
    source = row_ptr.new_empty(torch.library.get_ctx().new_dynamic_size())
    return row_ptr, source, torch.empty_like(source)
