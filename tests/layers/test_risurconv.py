"""RISurConv: a formula centre by centre, ragged neighbourhoods and batches, the corrections of the published form."""

import pytest
import torch
from torch import Tensor

from geoattn.layers import RISurConv


def conv(attention: str = "both", paper: bool = False, in_channels: int = 6) -> RISurConv:
    torch.manual_seed(0)
    return RISurConv(in_channels, 8, 4, attention=attention, paper=paper).double().eval()  # type: ignore[arg-type]


def inputs(m: int = 6, k: int = 5, n: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    features = torch.randn(m, k, 14, generator=generator, dtype=torch.float64)
    return x, features, torch.randint(n, (m, k), generator=generator)


def test_without_attention_is_the_formula() -> None:
    layer, (x, features, idx) = conv("none"), inputs()
    joint = torch.cat([layer.edge.weight, layer.source.weight], 1)  # W_2 acts on [e; x]
    rows = []
    for m in range(len(idx)):
        edges = layer.embed(features[m])
        hidden = torch.stack([joint @ torch.cat([edges[k], x[idx[m, k]]]) for k in range(idx.shape[1])])
        rows.append(layer.norm(hidden).relu().amax(0))
    torch.testing.assert_close(layer(x, features, idx), torch.stack(rows), rtol=0, atol=1e-12)


@pytest.mark.parametrize("attention", ["none", "neighbors", "centers", "both"])
def test_missing_neighbours_are_as_if_they_were_not_there(attention: str) -> None:
    layer, (x, features, idx) = conv(attention), inputs()
    wide = torch.cat([idx, torch.full((6, 3), -1)], 1)
    more = torch.cat([features, torch.randn(6, 3, 14, dtype=torch.float64)], 1)
    torch.testing.assert_close(layer(x, more, wide), layer(x, features, idx), rtol=0, atol=1e-12)


@pytest.mark.parametrize("attention", ["none", "neighbors", "centers", "both"])
@pytest.mark.parametrize("paper", [False, True])
def test_a_cloud_does_not_feel_the_batch(attention: str, paper: bool) -> None:
    layer, (x, features, idx) = conv(attention, paper), inputs()
    together = layer(x, features, idx, torch.tensor([0, 4, 4, 6]))
    torch.testing.assert_close(together[:4], layer(x, features[:4], idx[:4]), rtol=0, atol=1e-12)
    torch.testing.assert_close(together[4:], layer(x, features[4:], idx[4:]), rtol=0, atol=1e-12)


def test_a_centre_feels_no_other_unless_as_published() -> None:
    x, features, idx = inputs()
    changed = features.clone()
    changed[0] += 1
    for paper, expected in ((False, 0.0), (True, 1e-9)):
        layer = conv("neighbors", paper)
        difference = (layer(x, changed, idx) - layer(x, features, idx))[1:].abs().max()
        assert difference > expected if paper else difference == expected


def test_the_published_embedding_is_one_linear_map_in_evaluation() -> None:
    layer = conv("none", paper=True)
    x, y = torch.randn(2, 7, 14, dtype=torch.float64)
    before_relu = layer.embed[:-1]
    middle = before_relu((x + y) / 2)
    torch.testing.assert_close(middle, (before_relu(x) + before_relu(y)) / 2, rtol=0, atol=1e-12)


def test_nothing_to_look_at() -> None:
    layer, (x, features, idx) = conv("none"), inputs()
    assert (layer(x, features[:, :0], idx[:, :0]) == 0).all()
    assert layer(x, features[:0], idx[:0]).shape == (0, 8)
    alone = idx.clone()
    alone[2] = -1
    assert (layer(x, features, alone)[2] == 0).all()
    assert RISurConv(0, 8, 4)(None, torch.randn(3, 2, 14), torch.zeros(3, 2, dtype=torch.int64)).shape == (3, 8)


def test_gradients() -> None:
    layer, (x, features, idx) = conv(), inputs(3, 3, 4)
    idx[0, 2] = -1
    ptr = torch.tensor([0, 2, 3])
    torch.autograd.gradcheck(
        lambda x, f: layer(x, f, idx.remainder(4), ptr), (x.requires_grad_(), features.requires_grad_())
    )
