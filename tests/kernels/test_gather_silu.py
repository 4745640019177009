"""gather_silu: compiled loops against the definition, gradients of first and second order, registration."""

import os
import subprocess
import sys

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, explain, use
from geoattn.kernels.gather_silu import gather_add_silu, gather_silu

F64 = torch.float64


def parts(num_targets, num_sources, num_edges, channels, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(0, max(num_sources, 1), (num_edges,), generator=generator)
    target = torch.randint(0, max(num_targets, 1), (num_edges,), generator=generator)
    nbr = Neighborhood.from_edge_index(torch.stack([source, target]), num_targets, num_sources)
    rows = (num_targets, num_sources, num_edges)
    tensors = [4 * torch.randn(n, channels, generator=generator, dtype=F64).to(dtype) for n in rows]
    return [t.requires_grad_() for t in tensors], nbr, source, target


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(
    ("num_targets", "num_sources", "num_edges", "channels"),
    [
        pytest.param(5, 7, 0, 3, id="no edges"),
        pytest.param(1, 1, 1, 1, id="one of each"),
        pytest.param(1, 40, 100, 17, id="hub"),
        pytest.param(40, 1, 63, 64, id="one source"),
        pytest.param(63, 100, 2000, 33, id="two threads"),
    ],
)
def test_compiled_loops_agree_with_the_definition(num_targets, num_sources, num_edges, channels, dtype):
    (a, b, c), nbr, source, target = parts(num_targets, num_sources, num_edges, channels, dtype)
    expected = torch.nn.functional.silu(a[target] + b[source] + c)
    weight = torch.randn_like(expected)
    got = gather_silu(a, b, c, nbr)
    assert [choice.ran for choice in explain() if choice.operation == "gather_silu"] == ["numba"]
    torch.testing.assert_close(got, expected)
    for ours, theirs in zip(
        torch.autograd.grad((got * weight).sum(), (a, b, c)),
        torch.autograd.grad((expected * weight).sum(), (a, b, c)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=2e-5)


def test_extreme_values_stay_finite():
    nbr = Neighborhood.from_edge_index(torch.tensor([[0], [0]]), 1)
    for value in (-1e4, -100.0, -88.0, 88.0, 1e4):
        c = torch.full((1, 20), value, requires_grad=True)
        out = gather_silu(torch.zeros(1, 20), torch.zeros(1, 20), c, nbr)
        torch.testing.assert_close(out, torch.nn.functional.silu(c), atol=1e-6, rtol=1e-6)
        (gradient,) = torch.autograd.grad(out.sum(), c)
        torch.testing.assert_close(gradient, torch.full_like(c, float(value > 0)), atol=1e-5, rtol=1e-5)


def test_first_and_second_derivatives():
    tensors, nbr, _, _ = parts(4, 3, 9, 2, F64)
    assert torch.autograd.gradcheck(lambda *t: gather_silu(*t, nbr), tensors)
    assert torch.autograd.gradgradcheck(lambda *t: gather_silu(*t, nbr), tensors)


def test_only_the_gradients_asked_for():
    (a, b, c), nbr, _, _ = parts(4, 3, 9, 2, F64)
    out = gather_silu(a.detach(), b, c.detach(), nbr)
    (gradient,) = torch.autograd.grad(out.sum(), b)
    with use("reference"):
        expected = torch.autograd.grad(gather_silu(a, b, c, nbr).sum(), b)[0]
    torch.testing.assert_close(gradient, expected)


def test_registration():
    (a, b, c), nbr, _, _ = parts(6, 5, 20, 3, F64)
    c = c.detach()[nbr.edge_id].requires_grad_()
    torch.library.opcheck(
        gather_add_silu, (a, b, c, nbr.row_ptr, nbr.source, nbr.target, nbr.source_ptr, nbr.source_order)
    )


def test_wrong_widths_are_named():
    (a, b, c), nbr, _, _ = parts(4, 3, 9, 2, F64)
    with pytest.raises(ShapeError, match="at_source"):
        gather_silu(a, b[:, :1], c, nbr)
    with pytest.raises(ShapeError, match="at_edge"):
        gather_silu(a, b, c[:-1], nbr)


INTERPRETED = """
import torch
from geoattn.kernels import Neighborhood
from geoattn.kernels.gather_silu import cuda

for dtype, channels in ((torch.float32, 5), (torch.float64, 3)):
    torch.manual_seed(0)
    nbr = Neighborhood.from_edge_index(torch.randint(0, 4, (2, 40)), 6, 4).in_csr_order()
    parts = [torch.randn(n, channels, dtype=dtype, requires_grad=True) for n in (6, 4, 40)]
    expected = torch.nn.functional.silu(parts[0][nbr.target] + parts[1][nbr.source] + parts[2])
    grad = torch.randn_like(expected)
    a, b, c = (part.detach() for part in parts)
    out = cuda.gather_add_silu(a, b, c, nbr.row_ptr, nbr.source)
    torch.testing.assert_close(out, expected.detach())
    got = cuda.gather_add_silu_backward(
        grad, a, b, c, nbr.row_ptr, nbr.source, nbr.source_ptr, nbr.source_order, True
    )
    for ours, theirs in zip(got, torch.autograd.grad(expected, parts, grad)):
        torch.testing.assert_close(ours, theirs)
print("agrees")
"""


def test_triton_kernels_in_the_interpreter():
    pytest.importorskip("triton")
    result = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.stdout.strip() == "agrees", result.stderr
