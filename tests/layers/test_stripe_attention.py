"""Attention along rows and columns: the formula by loops, chords, the seam, samples apart, areas, memory."""

import itertools
import math
import sys
from pathlib import Path

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.geometry.sphere import lat_lon_grid, latitudes
from geoattn.layers import StripeAttention, sphere_attention
from geoattn.layers.stripe_attention import column_chords, row_chords

F64 = torch.float64
KINDS = ["cells", "equiangular", "legendre-gauss"]
CASES = list(itertools.product(["row", "column"], ["softmax", "das"], ["chord", None]))


def by_loops(layer, x):
    """The formulae of the docstring, pixel by pixel."""
    batch, channels, nlat, nlon = x.shape
    size = channels // layer.num_heads
    colatitude, weight = latitudes(nlat, layer.kind)
    pixels = x.permute(0, 2, 3, 1)
    q, k, v = (linear(pixels).unflatten(3, (-1, size)) for linear in (layer.query, layer.key, layer.value))
    y, mean = torch.zeros_like(q), torch.zeros(batch, nlat if layer.axis == "row" else nlon, dtype=F64)
    for b, i, j, h in itertools.product(range(batch), range(nlat), range(nlon), range(layer.num_heads)):
        others = [(i, t) for t in range(nlon)] if layer.axis == "row" else [(t, j) for t in range(nlat)]
        logits = []
        for r, c in others:
            turn = 2 * math.pi * (c - j) / nlon
            if layer.axis == "row":
                sine = math.sin(turn) if 2 * abs(c - j) != nlon else 0.0
                chord = (
                    math.copysign(1, sine) * (sine != 0) * math.sin(colatitude[i]) * math.sqrt(2 - 2 * math.cos(turn))
                )
            else:
                chord = math.copysign(1, r - i) * math.sqrt(2 - 2 * math.cos(colatitude[r] - colatitude[i]))
            product = q[b, i, j, h] @ k[b, r, c, h]
            if layer.score == "softmax":
                product = product / math.sqrt(size) + (weight[r] * 2 * math.pi / nlon).log()
            logits.append(product + (0.1 * chord if layer.bias else 0.0))
        logits = torch.stack(logits)
        values = torch.stack([v[b, r, c, h] for r, c in others])
        if layer.score == "softmax":
            y[b, i, j, h] = logits.softmax(0) @ values
        else:
            y[b, i, j, h] = (1 - (math.pi / 2 * logits / logits.square().sum().sqrt()).cos()) @ values
            mean[b, i if layer.axis == "row" else j] += logits.abs().sum()
    if layer.score == "das":
        share = (mean / mean.amax(1, keepdim=True)).clamp_min(0.5)
        share = share[:, :, None, None, None] if layer.axis == "row" else share[:, None, :, None, None]
        y = share * y + (1 - share) * pixels.unflatten(3, (-1, size))
    return layer.out(y.flatten(3)).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("axis", "score", "bias"), CASES)
@pytest.mark.parametrize(("shape", "kind"), [((4, 6), "cells"), ((3, 5), "equiangular")])
def test_the_formula_by_loops(axis, score, bias, shape, kind):
    layer = StripeAttention(6, 2, axis, score, bias, kind=kind).double()
    x = torch.randn(2, 6, *shape, dtype=F64) * torch.linspace(0.2, 2, shape[0], dtype=F64)[:, None]
    with torch.no_grad():
        found, expected = layer(x), by_loops(layer, x)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(layer.float()(x.float()).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nlon", [1, 7, 8])
def test_chords_are_distances_of_unit_vectors_with_the_sign_of_the_sine(kind, nlon):
    xyz = lat_lon_grid(5, nlon, kind).xyz.view(5, nlon, 3)
    colatitude = latitudes(5, kind)[0]
    east = (torch.arange(nlon) - torch.arange(nlon)[:, None]) % nlon
    rows, columns = row_chords(colatitude, nlon)[:, east], column_chords(colatitude)
    halfway = (torch.arange(nlon) - torch.arange(nlon)[:, None]).abs() * 2 == nlon  # east or west? neither
    between = (xyz[:, :, None] - xyz[:, None]).norm(dim=-1).masked_fill(halfway, 0)
    torch.testing.assert_close(rows.abs(), between, atol=1e-12, rtol=0)
    torch.testing.assert_close(columns.abs(), (xyz[:, None, 0] - xyz[None, :, 0]).norm(dim=-1), atol=1e-12, rtol=0)
    assert rows.equal(-rows.mT)
    assert columns.equal(-columns.mT)
    if nlon > 2:
        assert float(rows[2, 0, 1]) > 0 > float(rows[2, 0, -1]) and float(columns[0, 1]) > 0  # east, west, south


@pytest.mark.parametrize(("axis", "score", "bias"), CASES)
def test_columns_roll_and_samples_are_apart(axis, score, bias):
    layer = StripeAttention(8, 2, axis, score, bias).double()
    x = torch.randn(2, 8, 5, 12, dtype=F64)
    x[1] *= 30  # the stronger sample has no say in the weaker one's shares
    out = layer(x).detach()
    for shift in (1, 6, 7):
        torch.testing.assert_close(layer(x.roll(shift, 3)), out.roll(shift, 3), atol=1e-10, rtol=0)
    torch.testing.assert_close(out, torch.cat([layer(x[:1]), layer(x[1:])]), atol=1e-10, rtol=0)
    for dim in (2, 3):
        mirrored = (layer(x.flip(dim)).detach() - out.flip(dim)).abs().max()
        seen = bias == "chord" and (axis == "column") == (dim == 2)
        assert (float(mirrored) > 1e-4) == seen


@pytest.mark.parametrize("axis", ["row", "column"])
def test_equal_logits(axis):
    x = torch.randn(2, 4, 5, 9, dtype=F64)
    length = {"row": 9, "column": 5}[axis]
    das, mean = (StripeAttention(4, 1, axis, score, None).double() for score in ("das", "softmax"))
    for layer in (das, mean):
        for linear in (layer.query, layer.key, layer.value, layer.out):
            torch.nn.init.eye_(linear.weight)
            torch.nn.init.zeros_(linear.bias)
        torch.nn.init.zeros_(layer.query.weight)
    torch.nn.init.ones_(das.query.bias)
    torch.nn.init.zeros_(das.key.weight)
    torch.nn.init.ones_(das.key.bias)  # all logits are 4, all stripes equally strong
    weight = 1 - math.cos(math.pi / (2 * math.sqrt(length)))
    dim = {"row": 3, "column": 2}[axis]
    torch.testing.assert_close(das(x), weight * x.sum(dim, keepdim=True).expand_as(x), atol=1e-12, rtol=0)
    area = lat_lon_grid(5, 9, "cells").weight.view(5, 9)
    average = (area * x).sum(dim, keepdim=True) / area.sum(dim - 2, keepdim=True)
    torch.testing.assert_close(mean(x), average.expand_as(x), atol=1e-12, rtol=0)
    torch.nn.init.zeros_(das.query.bias)  # no stripe has any strength: half of the input is left
    torch.testing.assert_close(das(x), x / 2, atol=1e-12, rtol=0)


def test_columns_are_attention_of_the_meridians_points():
    layer = StripeAttention(8, 2, "column", bias=None).double()
    x = torch.randn(2, 8, 6, 5, dtype=F64)
    for j in range(5):
        points = x[..., j].mT
        q, k, v = (f(points).unflatten(2, (2, -1)) for f in (layer.query, layer.key, layer.value))
        weight = lat_lon_grid(6, 5, "cells").weight.view(6, 5)[:, j]
        expected = layer.out(sphere_attention(q, k, v, weight.log()).flatten(2)).mT
        torch.testing.assert_close(layer(x)[..., j], expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("axis", "score"), [case[:2] for case in CASES[::2]])
def test_gradcheck(axis, score):
    layer = StripeAttention(4, 2, axis, score).double()
    x = torch.randn(1, 4, 3, 4, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))


def peak_memory(step):
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    try:
        from _harness import peak_memory as peak
    finally:
        sys.path.pop(0)
    step()
    return peak(step)


def test_memory_grows_like_the_length_of_a_stripe():
    x, y = torch.randn(1, 4, 64, 128), torch.randn(1, 4, 128, 256)
    for axis in ("row", "column"):
        layer = StripeAttention(4, 1, axis, "das").requires_grad_(False)
        table = 128 * 256 * (256 if axis == "row" else 128) * 4 / 2**20  # of one head's scores; all pairs take 4096
        small, large = peak_memory(lambda: layer(x)), peak_memory(lambda: layer(y))  # noqa: B023
        assert table < large < 14 * table and large < 12 * small + 2  # 4 times the pixels, twice the length
        streamed = StripeAttention(4, 1, axis, "softmax", None)
        assert peak_memory(lambda: streamed(y).sum().backward()) < 32  # noqa: B023


def test_chords_of_rows_take_no_table():
    layer, x = StripeAttention(4, 1, "row"), torch.randn(1, 4, 128, 256)
    assert peak_memory(lambda: layer(x).sum().backward()) < 24  # a table of all pairs takes 32


@pytest.mark.parametrize(("axis", "score", "bias"), CASES)
def test_edge_cases(axis, score, bias):
    layer = StripeAttention(4, 2, axis, score, bias)
    for shape in ((2, 4, 1, 1), (2, 4, 1, 5), (1, 4, 3, 1), (0, 4, 3, 6)):
        x = torch.zeros(shape, requires_grad=True)
        out = layer(x)
        out.sum().backward()
        assert out.shape == shape and bool(out.isfinite().all()) and bool(x.grad.isfinite().all())
    pixel = torch.randn(2, 4, 1, 1)
    if score == "softmax":
        alone = layer.out(layer.value(pixel[..., 0, 0]))[..., None, None]
        torch.testing.assert_close(layer(pixel), alone)
    x = torch.randn(1, 4, 4, 6)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        torch.testing.assert_close(layer(x).float(), layer(x.double().float()).float(), atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: StripeAttention(7, 2), "channels"),
        (lambda: StripeAttention(8, 0), "num_heads"),
        (lambda: StripeAttention(8, -2), "num_heads"),
        (lambda: StripeAttention(8, 2, "rows"), "axis"),
        (lambda: StripeAttention(8, 2, score="dass"), "score"),
        (lambda: StripeAttention(8, 2, bias="chords"), "bias"),
        (lambda: StripeAttention(8, 2)(torch.randn(2, 4, 6, 8)), "x"),
        (lambda: StripeAttention(8, 2, kind="cell")(torch.randn(2, 8, 4, 6)), "kind"),
        (lambda: StripeAttention(8, 2, kind="lobatto")(torch.randn(2, 8, 1, 6)), "nlat"),
    ],
)
def test_errors_name_the_argument(call, argument):
    with pytest.raises(ShapeError) as error:
        call()
    assert error.value.argument == argument
