"""The definition of `radius`: all distances, those within r, a stable sort."""

import torch
from torch import Tensor

from geoattn.kernels._operation import uncompiled
from geoattn.kernels._search import distance_chunks, graph_pointers, squared_radius


@uncompiled  # loops over graphs, and a compiler may fuse multiply and add
def radius_search(
    x: Tensor, y: Tensor, ptr_x: Tensor | None, ptr_y: Tensor | None, r: float, exclude_self: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """``row_ptr [M+1]``, ``source [E]`` and ``target [E]`` of :func:`geoattn.kernels.radius`; any device.

    Memory is bounded by chunks of queries.
    """
    ptr_x, ptr_y = graph_pointers(x, y, ptr_x, ptr_y)
    limit = squared_radius(r, x.dtype)
    counts = ptr_x.new_zeros(len(y) + 1)
    sources, targets = [counts[:0]], [counts[:0]]
    for rows, first, near in distance_chunks(x, y, ptr_x, ptr_y, exclude_self):
        within = near <= limit
        target, source = within.nonzero(as_tuple=True)
        order = near[target, source].argsort(stable=True)  # sorted by distance, equal ones by index ..
        order = order[target[order].argsort(stable=True)]  # .. and kept so within each target
        sources.append(source[order] + first)
        targets.append(target + rows.start)
        counts[rows.start + 1 : rows.stop + 1] = within.sum(1)
    return counts.cumsum(0), torch.cat(sources), torch.cat(targets)
