"""Offset attention against a loop, its special cases and its masks."""

import pytest
import torch
from torch import Tensor

from geoattn.layers import OffsetAttention


def layer(normalize: str = "queries", channels: int = 8) -> OffsetAttention:
    torch.manual_seed(0)
    made = OffsetAttention(channels, normalize).double().eval()  # type: ignore[arg-type]
    made.norm.running_mean.uniform_(-0.5, 0.5)
    made.norm.running_var.uniform_(0.5, 2)
    return made


def loop(attention: OffsetAttention, x: Tensor) -> Tensor:
    """One set ``[S, C]``, element by element."""
    q, k, v = attention.query(x), attention.key(x), attention.value(x)
    weight = torch.zeros(len(x), len(x), dtype=x.dtype)
    for i in range(len(x)):
        for j in range(len(x)):
            weight[i, j] = torch.exp(q[i] @ k[j])
        weight[i] = weight[i] / weight[i].sum()
    rows = []
    for j in range(len(x)):
        if attention.normalize == "softmax":
            received = sum(weight[j, i] * v[i] for i in range(len(x)))
        else:
            total = 1e-9 + sum(weight[i, j] for i in range(len(x)))
            received = sum(weight[i, j] / total * v[i] for i in range(len(x)))
        rows.append(x[j] + attention.norm(attention.out(x[j] - received)[None])[0].relu())
    return torch.stack(rows)


@pytest.mark.parametrize("normalize", ["queries", "softmax"])
def test_agrees_with_a_loop(normalize: str) -> None:
    attention, x = layer(normalize), torch.randn(3, 5, 8, dtype=torch.float64)
    expected = torch.stack([loop(attention, one) for one in x])
    torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-12)


def test_of_equal_elements_is_uniform() -> None:
    attention = layer()
    x = torch.randn(1, 8, dtype=torch.float64).expand(6, 8)
    weight = attention.attention(x)
    torch.testing.assert_close(weight, torch.full_like(weight, 1 / 6))
    torch.testing.assert_close(weight.sum(0), torch.ones(6, dtype=torch.float64))


@pytest.mark.parametrize("normalize", ["queries", "softmax"])
def test_what_is_masked_changes_nothing(normalize: str) -> None:
    attention, x = layer(normalize), torch.randn(2, 6, 8, dtype=torch.float64)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    found = attention(x, mask)
    torch.testing.assert_close(found[1, :4], attention(x[1, :4]), rtol=0, atol=1e-12)
    torch.testing.assert_close(found[0], attention(x[0]), rtol=0, atol=1e-12)
    assert (found[1, 4:] == 0).all()


def test_is_equivariant_to_the_order() -> None:
    attention, x = layer(), torch.randn(7, 8, dtype=torch.float64)
    order = torch.randperm(7)
    torch.testing.assert_close(attention(x[order]), attention(x)[order], rtol=0, atol=1e-12)


def test_sets_sums_over_the_sets() -> None:
    attention, x = layer("sets"), torch.randn(1, 4, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(attention.attention(x).sum(1), torch.ones(1, 5, 5, dtype=torch.float64))
    other = x.clone()
    other[0, 0] += 1
    assert (attention(other) - attention(x))[0, 1:].abs().amax((1, 2)).min() > 1e-6  # all sets feel one


def test_gradients() -> None:
    attention, x = layer(), torch.randn(2, 4, 8, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    torch.autograd.gradcheck(lambda x: attention(x, mask), (x,))


@pytest.mark.parametrize("shape", [(0, 5, 8), (2, 1, 8)])
def test_no_sets_and_single_elements(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    assert layer()(x).shape == shape
