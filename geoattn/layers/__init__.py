"""Layers: one attention family per file."""

from geoattn.layers.context_attention import ContextAttention
from geoattn.layers.egnn import EdgeGeometry, EGNNLayer, edge_geometry
from geoattn.layers.equiformer import EquiformerLayer
from geoattn.layers.equiformer_v2 import EquiformerV2Block
from geoattn.layers.equivariant_linear import EquivariantLinear
from geoattn.layers.equivariant_norm import EquivariantLayerNorm
from geoattn.layers.gate import Gate
from geoattn.layers.graph_attention import GraphAttentionLayer
from geoattn.layers.norm_nonlinearity import NormNonlinearity
from geoattn.layers.pair_attention import PairAttention, pair_tokens
from geoattn.layers.se3_transformer import SE3TransformerLayer
from geoattn.layers.so2_conv import SO2Conv
from geoattn.layers.so3_activation import GateActivation, S2Activation, SeparableS2Activation
from geoattn.layers.so3_layer_norm import SO3LayerNorm
from geoattn.layers.so3_linear import SO3Linear
from geoattn.layers.tensor_field_conv import TensorFieldConv
from geoattn.layers.token_convolution import TokenConvolution

__all__ = [
    "ContextAttention",
    "EGNNLayer",
    "EdgeGeometry",
    "EquiformerLayer",
    "EquiformerV2Block",
    "EquivariantLayerNorm",
    "EquivariantLinear",
    "Gate",
    "GateActivation",
    "GraphAttentionLayer",
    "NormNonlinearity",
    "PairAttention",
    "S2Activation",
    "SE3TransformerLayer",
    "SO2Conv",
    "SO3LayerNorm",
    "SO3Linear",
    "SeparableS2Activation",
    "TensorFieldConv",
    "TokenConvolution",
    "edge_geometry",
    "pair_tokens",
]
