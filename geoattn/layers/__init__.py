"""Layers: one attention family per file."""

from geoattn.layers.attention_s2 import AttentionS2, NeighborhoodAttentionS2
from geoattn.layers.bias_factors import (
    BiasFactors,
    alibi_factors,
    cosine_factors,
    squared_distance_factors,
    svd_factors,
)
from geoattn.layers.biased_attention import BiasedAttention, biased_attention
from geoattn.layers.context_attention import ContextAttention
from geoattn.layers.edge_weights import EdgeWeights
from geoattn.layers.egnn import EdgeGeometry, EGNNLayer, edge_geometry
from geoattn.layers.equiformer import EquiformerLayer
from geoattn.layers.equiformer_v2 import EquiformerV2Block
from geoattn.layers.equivariant_gat import EquivariantGATLayer
from geoattn.layers.equivariant_linear import EquivariantLinear
from geoattn.layers.equivariant_norm import EquivariantLayerNorm
from geoattn.layers.gate import Gate
from geoattn.layers.gin_attention import GINAttention, causal_neighborhood
from geoattn.layers.graph_attention import GraphAttentionLayer
from geoattn.layers.grouped_mlp import GroupedLinear, GroupedMLP
from geoattn.layers.gta import GTA, geometric_transform_attention
from geoattn.layers.norm_nonlinearity import NormNonlinearity
from geoattn.layers.offset_attention import OffsetAttention
from geoattn.layers.pair_attention import PairAttention, pair_tokens
from geoattn.layers.pna_attention import PNAAttention, mean_log_degree
from geoattn.layers.polynormer import PolynormerGlobalLayer, PolynormerLocalLayer, head_groups, linear_attention
from geoattn.layers.risurconv import RISurConv
from geoattn.layers.se3_transformer import SE3TransformerLayer
from geoattn.layers.self_loops import with_self_loops
from geoattn.layers.so2_conv import SO2Conv
from geoattn.layers.so3_activation import GateActivation, S2Activation, SeparableS2Activation
from geoattn.layers.so3_layer_norm import SO3LayerNorm
from geoattn.layers.so3_linear import SO3Linear
from geoattn.layers.sparse_gin import SparseGINAdapter
from geoattn.layers.spherical_attention import SphereAttention, sphere_attention
from geoattn.layers.stripe_attention import StripeAttention
from geoattn.layers.symmetrize import (
    Canonicalize,
    FrameAveraging,
    OrbitDistance,
    VectorNetwork,
    prior_regularization,
)
from geoattn.layers.tensor_field_conv import TensorFieldConv
from geoattn.layers.token_convolution import TokenConvolution
from geoattn.layers.vector_attention import VectorAttention

__all__ = [
    "GTA",
    "AttentionS2",
    "BiasFactors",
    "BiasedAttention",
    "Canonicalize",
    "ContextAttention",
    "EGNNLayer",
    "EdgeGeometry",
    "EdgeWeights",
    "EquiformerLayer",
    "EquiformerV2Block",
    "EquivariantGATLayer",
    "EquivariantLayerNorm",
    "EquivariantLinear",
    "FrameAveraging",
    "GINAttention",
    "Gate",
    "GateActivation",
    "GraphAttentionLayer",
    "GroupedLinear",
    "GroupedMLP",
    "NeighborhoodAttentionS2",
    "NormNonlinearity",
    "OffsetAttention",
    "OrbitDistance",
    "PNAAttention",
    "PairAttention",
    "PolynormerGlobalLayer",
    "PolynormerLocalLayer",
    "RISurConv",
    "S2Activation",
    "SE3TransformerLayer",
    "SO2Conv",
    "SO3LayerNorm",
    "SO3Linear",
    "SeparableS2Activation",
    "SparseGINAdapter",
    "SphereAttention",
    "StripeAttention",
    "TensorFieldConv",
    "TokenConvolution",
    "VectorAttention",
    "VectorNetwork",
    "alibi_factors",
    "biased_attention",
    "causal_neighborhood",
    "cosine_factors",
    "edge_geometry",
    "geometric_transform_attention",
    "head_groups",
    "linear_attention",
    "mean_log_degree",
    "pair_tokens",
    "prior_regularization",
    "sphere_attention",
    "squared_distance_factors",
    "svd_factors",
    "with_self_loops",
]
