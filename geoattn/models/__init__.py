"""Models: stacks of one family of layers that any field can use."""

from geoattn.models.egnn import EGNN
from geoattn.models.equiformer import Equiformer
from geoattn.models.equiformer_v2 import EquiformerV2
from geoattn.models.iterative_se3_transformer import IterativeSE3Transformer
from geoattn.models.multiview import MultiViewTransformer
from geoattn.models.point_transformer import PointTransformer
from geoattn.models.polynormer import Polynormer
from geoattn.models.risur import RISurClassifier, RISurSegmenter
from geoattn.models.se3_transformer import SE3Transformer
from geoattn.models.sphere_transformer import SphereTransformer
from geoattn.models.sphere_unet import SphereUNet

__all__ = [
    "EGNN",
    "Equiformer",
    "EquiformerV2",
    "IterativeSE3Transformer",
    "MultiViewTransformer",
    "PointTransformer",
    "Polynormer",
    "RISurClassifier",
    "RISurSegmenter",
    "SE3Transformer",
    "SphereTransformer",
    "SphereUNet",
]
