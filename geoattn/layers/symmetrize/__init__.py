"""Symmetrisation: any network made invariant or equivariant by what it is given to see."""

from geoattn.layers.symmetrize.frame_averaging import FrameAveraging

__all__ = ["FrameAveraging"]
