"""The core: neighbourhoods, sparse reductions, neighbour attention and neighbour search."""

from geoattn.kernels._dispatch import Choice, explain, use
from geoattn.kernels.neighborhood import Neighborhood, as_neighborhood

__all__ = ["Choice", "Neighborhood", "as_neighborhood", "explain", "use"]
