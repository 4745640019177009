"""Models: stacks of one family of layers that any field can use."""

from geoattn.models.egnn import EGNN
from geoattn.models.equiformer import Equiformer
from geoattn.models.equiformer_v2 import EquiformerV2
from geoattn.models.iterative_se3_transformer import IterativeSE3Transformer
from geoattn.models.point_transformer import PointTransformer
from geoattn.models.polynormer import Polynormer
from geoattn.models.risur import RISurClassifier, RISurSegmenter
from geoattn.models.se3_transformer import SE3Transformer

__all__ = [
    "EGNN",
    "Equiformer",
    "EquiformerV2",
    "IterativeSE3Transformer",
    "PointTransformer",
    "Polynormer",
    "RISurClassifier",
    "RISurSegmenter",
    "SE3Transformer",
]
