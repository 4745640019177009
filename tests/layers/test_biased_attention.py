"""Biases by factors: dense formulae, gradients, precision at 8192 tokens, masks, and no N x M memory."""

import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from geoattn.errors import ShapeError
from geoattn.layers.bias_factors import (
    BiasFactors,
    alibi_factors,
    cosine_factors,
    squared_distance_factors,
    svd_factors,
)
from geoattn.layers.biased_attention import BiasedAttention, biased_attention

F64 = torch.float64


def qkv(batch=2, heads=3, n=7, m=9, dim=4, dim_v=5):
    shapes = [(n, dim), (m, dim), (m, dim_v)]
    return [torch.randn(batch, heads, *shape, dtype=F64, requires_grad=True) for shape in shapes]


def dense(q, k, v, bias, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5 + bias
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1).nan_to_num() @ v


def test_squared_distances_equal_the_dense_bias_with_all_gradients():
    q, k, v = qkv()
    x = (torch.randn(2, 7, 3, dtype=F64) + 5).requires_grad_()
    y = (torch.randn(2, 9, 3, dtype=F64) + 5).requires_grad_()
    weight = torch.rand(3, dtype=F64, requires_grad=True)
    bias = -weight[:, None, None] * (x[:, None, :, None] - y[:, None, None]).square().sum(-1)
    inputs, weights = (q, k, v, x, y, weight), torch.randn(2, 3, 7, 5, dtype=F64)
    factors = squared_distance_factors(x, y, weight)
    torch.testing.assert_close(factors.dense(), bias, atol=1e-12, rtol=0)
    ours, expected = biased_attention(q, k, v, *factors), dense(q, k, v, bias)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)
    gradients = [torch.autograd.grad((out * weights).sum(), inputs) for out in (ours, expected)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


@pytest.mark.parametrize("num_heads", [1, 4, 6, 8])
def test_alibi_is_that_of_the_paper(num_heads):
    factors = alibi_factors(7, 7, num_heads)
    bias, i = factors.dense(), torch.arange(7.0)
    slope = bias[:, 1, 0] - bias[:, 0, 0]
    assert (slope < 0).all() and len(set(slope.tolist())) == num_heads
    torch.testing.assert_close(bias, slope[:, None, None] * (i[:, None] - i), atol=1e-6, rtol=0)
    if num_heads == 8:
        assert (-slope).tolist() == [2.0**-h for h in range(1, 9)]
    if num_heads == 6:
        assert (-slope).tolist() == [0.25, 0.0625, 1 / 64, 1 / 256, 0.5, 0.125]
    q, k, v = qkv(heads=num_heads, m=7)
    causal = torch.ones(7, 7, dtype=torch.bool).tril()
    ours = biased_attention(q, k, v, *factors, causal=True)
    torch.testing.assert_close(ours, dense(q, k, v, bias.double(), causal), atol=1e-12, rtol=0)


@pytest.mark.parametrize("heads", [False, True])
def test_cosines_equal_the_dense_bias(heads):
    x, y, frequency = torch.randn(2, 7, 2, dtype=F64), torch.randn(2, 9, 2, dtype=F64), torch.randn(4, 2, dtype=F64)
    weight = torch.randn(3, 4, dtype=F64) if heads else torch.randn(4, dtype=F64)
    cosines = ((x[:, :, None] - y[:, None]) @ frequency.T).cos()
    expected = torch.einsum("bnmf,hf->bhnm", cosines, weight) if heads else cosines @ weight
    torch.testing.assert_close(cosine_factors(x, y, frequency, weight).dense(), expected, atol=1e-12, rtol=0)


def test_sums_and_products_of_biases():
    x, y = torch.randn(2, 7, 3, dtype=F64), torch.randn(2, 9, 3, dtype=F64)
    a = squared_distance_factors(x, y, torch.rand(3, dtype=F64))
    b = cosine_factors(x, y, torch.randn(2, 3, dtype=F64), torch.randn(3, 2, dtype=F64))
    total, product = a + b, a * b
    assert total.query.shape[-1] == 9 and product.query.shape[-1] == 20
    torch.testing.assert_close(total.dense(), a.dense() + b.dense(), atol=1e-12, rtol=0)
    torch.testing.assert_close(product.dense(), a.dense() * b.dense(), atol=1e-11, rtol=0)


def test_tables_are_kept_to_the_energy_asked_for_and_the_error_is_said():
    table = torch.randn(3, 20, 4, dtype=F64) @ torch.randn(3, 4, 30, dtype=F64)
    table += 0.05 * torch.randn(3, 20, 30, dtype=F64)
    for options in ({"energy": 0.995}, {"rank": 4}, {"energy": 1.0}):
        factors, error = svd_factors(table, **options)
        measured = (factors.dense() - table).norm(dim=(1, 2)) / table.norm(dim=(1, 2))
        torch.testing.assert_close(error, measured, atol=1e-9, rtol=1e-6)
        if "energy" in options:
            assert (error.square() <= 1 - options["energy"] + 1e-12).all()
    factors, error = svd_factors(table, energy=0.995)
    assert factors.query.shape[-1] <= 4 and error.max() < 0.08
    assert svd_factors(torch.zeros(3, 4), energy=0.9)[1] == 0


def test_float32_is_good_at_8192_tokens():
    n = 8192
    rows = torch.tensor([0, 1, 4000, n - 1])
    i = torch.arange(n, dtype=F64)
    factors = alibi_factors(n, n, 8)
    assert factors.query.dtype == torch.float32
    expected = -(2.0 ** -torch.arange(1, 9, dtype=F64))[:, None, None] * (i[rows, None] - i)
    assert ((factors.query[:, rows] @ factors.key.mT).double() - expected).abs().max() < 1e-3
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, 3, generator=generator) + 1000.0  # a cloud of size 1, far from the origin
    exact = -10 * torch.cdist(x[rows].double(), x.double()).square()
    ours = squared_distance_factors(x, x, 10.0)
    assert ((ours.query[rows] @ ours.key.mT).double() - exact).abs().max() < 1e-3
    uncentred = -10 * ((x[rows].square().sum(1)[:, None] + x.square().sum(1)) - 2 * x[rows] @ x.T)
    assert (uncentred.double() - exact).abs().max() > 0.1  # the test sees what centring is for


def test_distances_do_not_see_motions():
    q, k, v = (t.detach() for t in qkv())
    x, y = torch.randn(7, 3, dtype=F64), torch.randn(9, 3, dtype=F64)
    turn, shift = torch.linalg.qr(torch.randn(3, 3, dtype=F64))[0], 100 * torch.randn(3, dtype=F64)
    before = biased_attention(q, k, v, *squared_distance_factors(x, y, 1.0))
    moved = biased_attention(q, k, v, *squared_distance_factors(x @ turn.T + shift, y @ turn.T + shift, 1.0))
    torch.testing.assert_close(moved, before, atol=1e-12, rtol=0)


@pytest.mark.parametrize("causal", [False, True])
def test_keys_that_are_not_there(causal):
    q, k, v = qkv(m=7)
    factors = squared_distance_factors(torch.randn(7, 3, dtype=F64), torch.randn(7, 3, dtype=F64), 1.0)
    mask = torch.tensor([[False, False, True, True, False, True, True], [False] * 7])
    sees = mask[:, None, None] & (torch.ones(7, 7, dtype=torch.bool).tril() if causal else True)
    ours = biased_attention(q, k, v, *factors, mask=mask, causal=causal)
    expected = dense(q, k, v, factors.dense(), sees)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)
    assert (ours[1] == 0).all() and (ours[0, :, :2] == 0).all() == causal
    gradients = torch.autograd.grad(ours.sum(), (q, k, v))
    assert all(g.isfinite().all() for g in gradients)
    assert all((g[0, :, [0, 1, 4]] == 0).all() and (g[1] == 0).all() for g in gradients[1:])


def test_sixteen_bits_keep_the_factors_in_float32():
    q, k, v = (t.detach().bfloat16() for t in qkv(m=7))
    factors = alibi_factors(7, 7, 3)
    shifted = BiasFactors(factors.query, factors.key + torch.tensor([0.0, 4096.0]))  # a constant per row
    with torch.autocast("cpu", dtype=torch.bfloat16):
        a, b = (biased_attention(q, k, v, *f, causal=True) for f in (factors, shifted))
    assert a.dtype == torch.bfloat16
    torch.testing.assert_close(a, b, atol=0.02, rtol=0.02)


def test_no_memory_of_the_size_of_the_scores():
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    try:
        from _harness import peak_memory
    finally:
        sys.path.pop(0)
    n = 8192
    q, k, v = (torch.randn(1, 1, n, 16, requires_grad=True) for _ in range(3))
    x, mask = torch.rand(n, 3, requires_grad=True), (torch.arange(n) > 100)[None]
    step = lambda: biased_attention(q, k, v, *squared_distance_factors(x, x, 3.0), mask=mask).sum().backward()
    step()
    assert peak_memory(step) < 60  # MiB; one table of scores is 256
    bias = squared_distance_factors(x, x, 3.0).dense().detach()
    assert peak_memory(lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=bias + 1)) > 200  # the probe sees


def test_the_layer_is_its_formula():
    layer, x, context = BiasedAttention(8, 2, context_channels=6).double(), torch.randn(2, 7, 8), torch.randn(2, 9, 6)
    x, context, mask = x.double(), context.double(), torch.rand(2, 9) > 0.4
    factors = squared_distance_factors(torch.randn(2, 7, 3, dtype=F64), torch.randn(2, 9, 3, dtype=F64), torch.rand(2))
    split = lambda t: t.unflatten(-1, (2, 4)).transpose(1, 2)
    k, v = layer.key_value(context).chunk(2, -1)
    y = dense(split(layer.query(x)), split(k), split(v), factors.dense(), mask[:, None, None])
    torch.testing.assert_close(layer(x, factors, context, mask), layer.out(y.transpose(1, 2).flatten(2)))


def test_errors_say_what_to_do():
    q, k, v = qkv()
    a, b = torch.randn(7, 2, dtype=F64), torch.randn(9, 2, dtype=F64)
    for arguments, options, message in [
        ((q[0], k, v, a, b), {}, "q: "),
        ((q, k[..., :2], v, a, b), {}, "k: "),
        ((q, k, v[:, :, :5], a, b), {}, "v: "),
        ((q, k, v, b, b), {}, "q_factors"),
        ((q, k, v, a.expand(5, 7, 2), b), {}, "q_factors"),
        ((q, k, v, a, b[:, :1]), {}, "k_factors"),
        ((q, k, v, a, b), {"causal": True}, "as many keys"),
        ((q, k, v, a, b), {"mask": torch.ones(2, 9)}, "mask"),
    ]:
        with pytest.raises(ShapeError, match=message):
            biased_attention(*arguments, **options)
    for call, message in [
        (lambda: squared_distance_factors(torch.rand(3, 2), torch.rand(3, 3), 1.0), "x, y"),
        (lambda: alibi_factors(3, 3, 0), "num_heads"),
        (lambda: cosine_factors(torch.rand(3, 2), torch.rand(3, 2), torch.rand(2), torch.rand(2)), "frequency"),
        (lambda: cosine_factors(torch.rand(3, 2), torch.rand(3, 2), torch.rand(2, 2), torch.rand(3)), "weight"),
        (lambda: svd_factors(torch.rand(3, 4)), "one of them"),
        (lambda: svd_factors(torch.rand(3, 4), rank=4), "1 to 3"),
        (lambda: svd_factors(torch.rand(3, 4), energy=1.5), "share"),
        (lambda: BiasedAttention(7, 2), "divisor"),
        (lambda: BiasedAttention(8, 2)(torch.rand(1, 3, 7), None), "x: "),
        (lambda: BiasedAttention(8, 2)(torch.rand(1, 3, 8), None, torch.rand(2, 3, 8)), "context"),
    ]:
        with pytest.raises(ShapeError, match=message):
            call()
