"""The definition of `knn`: all distances, a stable sort, the first k."""

import torch
from torch import Tensor

from geoattn.kernels._operation import uncompiled
from geoattn.kernels._search import distance_chunks, graph_pointers


@uncompiled  # loops over graphs, and a compiler may fuse multiply and add
def knn_search(
    x: Tensor, y: Tensor, ptr_x: Tensor | None, ptr_y: Tensor | None, k: int, exclude_self: bool
) -> tuple[Tensor, Tensor]:
    """See :func:`geoattn.kernels.knn`; any device, memory bounded by chunks of queries."""
    ptr_x, ptr_y = graph_pointers(x, y, ptr_x, ptr_y)
    idx = torch.full((len(y), k), -1, device=x.device)
    dist2 = x.new_full((len(y), k), torch.inf)
    for rows, first, near in distance_chunks(x, y, ptr_x, ptr_y, exclude_self):
        near, order = near.sort(dim=1, stable=True)  # equal distances stay in the order of the indices
        found = min(k, near.shape[1] - exclude_self)
        idx[rows, :found] = order[:, :found] + first
        dist2[rows, :found] = near[:, :found]
    return idx, dist2
