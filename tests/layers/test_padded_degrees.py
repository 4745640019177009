"""Padded features do the same as packed ones."""

import torch

from geoattn.geometry.edges import smallest_square
from geoattn.geometry.irreps import PackedLayout
from geoattn.layers.norm_nonlinearity import NormNonlinearity
from geoattn.layers.padded_degrees import PaddedNormNonlinearity, to_packed, to_padded


def test_the_same_vectors_count_as_zero():
    """Lengths on both sides of the one below which a vector has no direction; zero among them."""
    irreps = "4x0e + 4x1o"
    layout = PackedLayout(irreps)
    shortest = smallest_square(torch.float32) ** 0.5
    vectors = torch.nn.functional.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    lengths = torch.tensor([0.0, 0.9, 1.1, 1e13]) * shortest
    x = layout.join({0: torch.ones(1, 4, 1), 1: (vectors * lengths[:, None])[None]})
    plain, padded = NormNonlinearity(irreps), PaddedNormNonlinearity(irreps)
    for layer in (plain, padded):
        for bias in layer.bias.values():
            torch.nn.init.constant_(bias, 1.0)
    found = to_packed(padded(to_padded(x, layout)), layout)
    torch.testing.assert_close(found, plain(x))
    kept = layout.split(found)[1].norm(dim=-1)[0] > 0
    assert kept.tolist() == [False, False, True, True]
