"""Symmetrisation: any network made invariant or equivariant by what it is given to see."""

from geoattn.layers.symmetrize.canonicalize import Canonicalize, Pose, prior_regularization
from geoattn.layers.symmetrize.frame_averaging import FrameAveraging
from geoattn.layers.symmetrize.orbit_distance import OrbitDistance
from geoattn.layers.symmetrize.vector_network import VectorNetwork

__all__ = ["Canonicalize", "FrameAveraging", "OrbitDistance", "Pose", "VectorNetwork", "prior_regularization"]
