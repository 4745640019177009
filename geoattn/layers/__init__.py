"""Layers: one attention family per file."""

from geoattn.layers.egnn import EdgeGeometry, EGNNLayer, edge_geometry
from geoattn.layers.graph_attention import GraphAttentionLayer

__all__ = ["EGNNLayer", "EdgeGeometry", "GraphAttentionLayer", "edge_geometry"]
