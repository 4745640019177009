"""The core: neighbourhoods, sparse reductions, neighbour attention and neighbour search."""

from geoattn.kernels._dispatch import Choice, explain, use
from geoattn.kernels.farthest_points import farthest_points
from geoattn.kernels.gather_scatter import gather_dot, gather_scatter
from geoattn.kernels.gather_silu import gather_silu
from geoattn.kernels.interpolate import interpolate
from geoattn.kernels.knn import knn
from geoattn.kernels.neighbor_attention import neighbor_attention
from geoattn.kernels.neighborhood import Neighborhood, as_neighborhood
from geoattn.kernels.radius import radius
from geoattn.kernels.segment_outer import segment_matmul, segment_outer
from geoattn.kernels.segment_reduce import segment_reduce
from geoattn.kernels.segment_softmax import segment_softmax
from geoattn.kernels.sparse_bilinear import sparse_bilinear
from geoattn.kernels.sparse_bilinear.table import BilinearTable
from geoattn.kernels.voxel_grid import VoxelGrid, voxel_grid

__all__ = [
    "BilinearTable",
    "Choice",
    "Neighborhood",
    "VoxelGrid",
    "as_neighborhood",
    "explain",
    "farthest_points",
    "gather_dot",
    "gather_scatter",
    "gather_silu",
    "interpolate",
    "knn",
    "neighbor_attention",
    "radius",
    "segment_matmul",
    "segment_outer",
    "segment_reduce",
    "segment_softmax",
    "sparse_bilinear",
    "use",
    "voxel_grid",
]
