"""Geometry: mathematics of edges, directions and rotations, without parameters."""

from geoattn.geometry.block_rep import BlockRep, projection_matrices
from geoattn.geometry.cameras import (
    check_poses,
    from_colmap,
    from_opengl,
    invert_pose,
    relative_poses,
    to_colmap,
    to_opengl,
)
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.geometry.edge_frame import EdgeFrame
from geoattn.geometry.frames import Frames, pca_frames
from geoattn.geometry.harmonics import spherical_harmonics
from geoattn.geometry.irreps import PackedLayout, natural_irreps, to_degrees, to_packed
from geoattn.geometry.matrix_groups import MatrixGroup
from geoattn.geometry.orthonormalize import orthonormalize
from geoattn.geometry.rays import pixel_centres, pixel_rays, pluecker, project, scale_intrinsics
from geoattn.geometry.sphere import (
    SpherePoints,
    cubed_sphere,
    geodesic_neighborhood,
    healpix,
    lat_lon_grid,
    lat_lon_points,
    latitudes,
    scattered,
    window_neighborhood,
)
from geoattn.geometry.wigner import rotation_to_y, wigner_d

__all__ = [
    "BlockRep",
    "EdgeBasis",
    "EdgeFrame",
    "Frames",
    "MatrixGroup",
    "PackedLayout",
    "SpherePoints",
    "check_poses",
    "cubed_sphere",
    "from_colmap",
    "from_opengl",
    "geodesic_neighborhood",
    "healpix",
    "invert_pose",
    "lat_lon_grid",
    "lat_lon_points",
    "latitudes",
    "natural_irreps",
    "orthonormalize",
    "pca_frames",
    "pixel_centres",
    "pixel_rays",
    "pluecker",
    "project",
    "projection_matrices",
    "relative_poses",
    "rotation_to_y",
    "scale_intrinsics",
    "scattered",
    "spherical_harmonics",
    "to_colmap",
    "to_degrees",
    "to_opengl",
    "to_packed",
    "wigner_d",
    "window_neighborhood",
]
