"""TokenConvolution: against loops over tokens, padding, batches, gradients, edge cases."""

import pytest
import torch
from torch.nn.functional import pad

from geoattn.errors import ShapeError
from geoattn.layers.token_convolution import TokenConvolution

F64 = torch.float64
LENGTHS = (5, 0, 1, 7)


def make(kernel_sizes=(1, 3, 5), dropout=0.0) -> TokenConvolution:
    return TokenConvolution(3, 4, kernel_sizes, dropout).double()


def inputs(lengths=LENGTHS, width=7):
    """Random numbers also where there is no token: they must not count."""
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), width, 3, dtype=F64), mask


def one_token_at_a_time(layer, x):
    """The formula of the docstring for one sequence ``[L, 3]``."""
    result = []
    for t in range(len(x)):
        wide = []
        for convolution in layer.convolutions:
            half = convolution.kernel_size[0] // 2
            total = convolution.bias
            for d in range(-half, half + 1):
                if 0 <= t + d < len(x):
                    total = total + convolution.weight[:, :, half + d] @ x[t + d]
            wide.append(total / (1 + (-total).exp()))  # SiLU
        result.append(layer.mix.weight @ torch.cat(wide) + layer.mix.bias)
    return torch.stack(result) if result else x.new_empty(0, 4)


@pytest.mark.parametrize("kernel_sizes", [(1,), (3,), (1, 3, 5), (9,)], ids=str)  # 9 is wider than any sequence
@torch.no_grad()
def test_agrees_with_a_loop_over_tokens(kernel_sizes):
    layer, (x, mask) = make(kernel_sizes), inputs()
    expected = torch.cat([one_token_at_a_time(layer, x[s, :length]) for s, length in enumerate(LENGTHS)])
    torch.testing.assert_close(layer(x, mask), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_padding_and_other_sequences_change_nothing():
    layer, (x, mask) = make(), inputs()
    together = layer(x, mask)
    longer = layer(pad(x, (0, 0, 0, 100), value=3.0), pad(mask, (0, 100)))
    torch.testing.assert_close(longer, together, rtol=1e-12, atol=1e-12)
    alone = [layer(x[s : s + 1, :length], mask[s : s + 1, :length]) for s, length in enumerate(LENGTHS) if length]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_sequences_in_another_order():
    layer, (x, mask) = make(), inputs()
    parts = layer(x, mask).split(LENGTHS)
    order = [3, 1, 0, 2]
    expected = torch.cat([parts[s] for s in order])
    torch.testing.assert_close(layer(x[order], mask[order]), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_no_token_gives_no_row():
    layer = make()
    assert layer(*inputs((0, 0))).shape == (0, 4)
    assert layer(torch.empty(0, 7, 3, dtype=F64), torch.empty(0, 7, dtype=torch.bool)).shape == (0, 4)


def test_gradients_and_none_for_padding():
    layer, (x, mask) = make(), inputs((2, 0, 3), 4)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x, mask), (x,))
    layer(x, mask).sum().backward()
    assert (x.grad[~mask] == 0).all() and (x.grad[mask] != 0).all()


def test_dropout_is_for_training():
    layer, (x, mask) = make(dropout=0.5), inputs()
    dropped = (layer(x, mask) == 0).float().mean()
    assert 0.1 < dropped < 0.9
    assert (layer.eval()(x, mask) != 0).all()


@pytest.mark.parametrize("kernel_sizes", [(1, 2), (), (-1,)], ids=str)
def test_widths_are_odd(kernel_sizes):
    with pytest.raises(ShapeError, match="kernel_sizes: got .*, expected odd widths"):
        TokenConvolution(3, 4, kernel_sizes)


def test_channels_are_even():
    with pytest.raises(ShapeError, match="channels: got 5, expected an even number: each width has half as many"):
        TokenConvolution(3, 5)
