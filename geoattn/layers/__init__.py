"""Layers: one attention family per file."""

from geoattn.layers.context_attention import ContextAttention
from geoattn.layers.egnn import EdgeGeometry, EGNNLayer, edge_geometry
from geoattn.layers.equiformer_v2 import EquiformerV2Block
from geoattn.layers.equivariant_linear import EquivariantLinear
from geoattn.layers.equivariant_norm import EquivariantLayerNorm
from geoattn.layers.gate import Gate
from geoattn.layers.graph_attention import GraphAttentionLayer
from geoattn.layers.norm_nonlinearity import NormNonlinearity
from geoattn.layers.so2_conv import SO2Conv
from geoattn.layers.so3_activation import GateActivation, S2Activation, SeparableS2Activation
from geoattn.layers.so3_layer_norm import SO3LayerNorm
from geoattn.layers.so3_linear import SO3Linear

__all__ = [
    "ContextAttention",
    "EGNNLayer",
    "EdgeGeometry",
    "EquiformerV2Block",
    "EquivariantLayerNorm",
    "EquivariantLinear",
    "Gate",
    "GateActivation",
    "GraphAttentionLayer",
    "NormNonlinearity",
    "S2Activation",
    "SO2Conv",
    "SO3LayerNorm",
    "SO3Linear",
    "SeparableS2Activation",
    "edge_geometry",
]
