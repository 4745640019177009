"""`knn`: the k nearest neighbours of each point, batched, with a documented order."""

import torch
from torch import Tensor

from geoattn.kernels._dispatch import choose
from geoattn.kernels._operation import operation
from geoattn.kernels._search import check_count, check_points
from geoattn.kernels.knn import reference

TRITON_LARGEST_K = 128


def knn(
    x: Tensor,
    y: Tensor | None = None,
    k: int = 16,
    *,
    ptr_x: Tensor | None = None,
    ptr_y: Tensor | None = None,
    loop: bool = False,
) -> tuple[Tensor, Tensor]:
    """The k nearest sources of each query, in its own graph, in the order of (squared distance, index).

    The squared distance is ``sum_d (y_d - x_d)^2`` from differences, dimensions added in ascending order, each step
    rounded in the dtype of the coordinates (16-bit ones: float32). All implementations follow this rule to the bit,
    so CPU and GPU find the same neighbours, ties included. Autocast does not change it.

    Args:
        x: ``[N, D]`` sources.
        y: ``[M, D]`` queries; None: the points of ``x``.
        k: neighbours per query, at least 1.
        ptr_x: ``[B+1]`` integers, where each graph begins in ``x``, and N; None: all points are one graph. Graphs may
            be empty. PyG calls it ``batch.ptr``.
        ptr_y: the same for ``y``; goes with ``ptr_x`` when ``y`` is given.
        loop: whether a point is its own neighbour when ``y`` is None. It is left out by its index, not by its distance:
            a coincident point stays. With ``y`` given no pair is left out.

    Returns:
        ``idx [M, k]`` int64, rows of ``x``, and ``dist2 [M, k]`` in the promoted dtype of the coordinates (float32 for
        16-bit ones). Where a graph has fewer than k sources: -1 and inf. Neither carries a gradient; recompute
        distances from the positions where one is needed (`geoattn.geometry.edges`).

    Raises:
        ShapeError: for shapes, dtypes, graphs or counts that do not fit, and for nan or inf among the coordinates.

    Symmetry: where no two distances tie within rounding, invariant to rotation, reflection and translation and
    equivariant to permutation.

    Cost: on the CPU O(N log N) by a k-d tree for graphs of more than about 32 * 2^D points in D dimensions, else and
    on the GPU all pairs of a graph; O(M k) memory. Under ``torch.compile`` it is one opaque operation without a graph
    break.

    Example:
        >>> import torch
        >>> idx, dist2 = knn(torch.tensor([[0.0], [1.0], [3.0]]), k=1)
        >>> idx.flatten().tolist(), dist2.flatten().tolist()
        ([1, 0, 1], [1.0, 1.0, 4.0])
    """
    check_count("k", k)
    exclude_self = y is None and not loop
    x, y, ptr_x, ptr_y = check_points(x, y, ptr_x, ptr_y)
    search = reference.knn_search if choose("knn", x, _refused(x, k)) == "reference" else knn_search
    return search(x, y, ptr_x, ptr_y, k, exclude_self)


def _refused(x: Tensor, k: int) -> dict[str, str]:
    if x.dtype == torch.float64:
        return {"triton": "its keys of distance and index hold a float32 distance"}
    if k > TRITON_LARGEST_K:
        return {"triton": f"it keeps at most {TRITON_LARGEST_K} neighbours in registers"}
    return {}


@operation
def knn_search(
    x: Tensor, y: Tensor, ptr_x: Tensor | None, ptr_y: Tensor | None, k: int, exclude_self: bool
) -> tuple[Tensor, Tensor]:
    """``idx [M, k]`` and ``dist2 [M, k]`` of `knn`; ``ptr_y`` is given when ``ptr_x`` is."""
    return x.new_empty((y.shape[0], k), dtype=torch.int64), x.new_empty((y.shape[0], k))
