"""neighbor_attention on the CPU: against a formula, against torch's attention, at the edges of its range."""

import importlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from torch.library import opcheck

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, _threads, explain, neighbor_attention, use
from geoattn.kernels.neighbor_attention import _simd, attention_rows, attention_rows_backward, cpu

F64 = torch.float64
TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 2e-5}, F64: {"rtol": 1e-12, "atol": 1e-12}}


@pytest.fixture(autouse=True)
def fresh_memory_is_nan(monkeypatch):
    """What a kernel forgets to write is NaN; the kernels' results live in numpy's memory, which torch does not fill."""
    empty = cpu._empty
    monkeypatch.setattr(cpu, "_empty", lambda *shape, like: empty(*shape, like=like).fill_(torch.nan))


def tensors(graph, heads, dim, dim_v, kv="node", bias=True, dtype=F64):
    """q, k, v and, if asked for, a bias; a fifth of it masks."""
    rows = graph.num_sources if kv == "node" else graph.num_edges
    shapes = [(graph.num_targets, heads, dim), (rows, heads, dim), (rows, heads, dim_v)]
    values = [torch.randn(*shape, dtype=F64).to(dtype) for shape in shapes]
    if bias:
        values.append(torch.randn(graph.num_edges, heads, dtype=F64).to(dtype))
        values[-1][torch.rand(graph.num_edges, heads) < 0.2] = -torch.inf
    return values


def dense(graph, q, k, v, bias=None, kv="node"):
    """Independent formula, target by target."""
    rows = []
    for target in range(graph.num_targets):
        edges = (graph.edge_index[1] == target).nonzero()[:, 0]
        of = graph.edge_index[0][edges] if kv == "node" else edges
        logits = torch.einsum("hd,ehd->eh", q[target], k[of]) / q.shape[2] ** 0.5
        logits = logits if bias is None else logits + bias[edges]
        p = logits.softmax(0).nan_to_num(0) if len(edges) else logits
        rows.append(torch.einsum("eh,ehc->hc", p, v[of]))
    return torch.stack(rows) if rows else 0 * v.sum() * q.new_zeros(0, q.shape[1], v.shape[2])


def output_and_gradients(function, values):
    leaves = [x.detach().requires_grad_() for x in values]
    out = function(*leaves)
    weight = torch.linspace(-1, 1, max(1, out.numel()), dtype=out.dtype)[: out.numel()].view(out.shape)
    return [out, *torch.autograd.grad((out * weight).sum(), leaves, allow_unused=True, materialize_grads=True)]


def assert_close(found, expected, **tolerance):
    for name, a, b in zip(("out", "q", "k", "v", "bias"), found, expected, strict=False):
        torch.testing.assert_close(a, b, msg=lambda m, n=name: f"{n}: {m}", **(tolerance or TOLERANCE[b.dtype]))


# Values


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kv", ["node", "edge"])
def test_dense_formula(graph, kv, bias, implementation):
    nbr, values = graph.neighborhood(), tensors(graph, 3, 4, 5, kv, bias)
    with use(implementation):
        found = output_and_gradients(lambda *x: neighbor_attention(*x[:3], nbr, *x[3:], kv=kv), values)
    # the dense softmax of a target whose every edge is masked has no gradient to compare with
    masked = bias and any(values[3][graph.edge_index[1] == i].isinf().all(0).any() for i in range(graph.num_targets))
    expected = output_and_gradients(lambda *x: dense(graph, *x, kv=kv), values)
    assert_close(found[:1] if masked else found, expected)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kv", ["node", "edge"])
@pytest.mark.parametrize(
    ("heads", "dim", "dim_v"),
    [
        (1, 1, 1),  # nothing fills a vector
        (8, 16, 16),  # the head dimension is a constant; heads fill half a vector
        (20, 8, 8),  # two vectors of heads, a third of them padding
        (3, 64, 64),  # several vectors per head, heads padded to four
        (5, 3, 7),  # short vectors and single numbers, k and v of different width
        (2, 128, 100),  # general width, whole vectors and a rest
        (4, 63, 1),  # every length of vector
    ],
)
def test_compiled_loops_equal_the_reference(graph, heads, dim, dim_v, kv, dtype):
    nbr, values = graph.neighborhood(), tensors(graph, heads, dim, dim_v, kv, dtype=dtype)
    found, expected = [], []
    for results, implementation in ((found, "numba"), (expected, "reference")):
        with use(implementation):
            results += output_and_gradients(lambda *x: neighbor_attention(*x[:3], nbr, x[3], kv=kv), values)
    assert_close(found, expected)


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("heads", [3, 8, 20])
def test_a_bias_of_one_column_serves_all_heads(graph, heads, implementation):
    nbr, (q, k, v, bias) = graph.neighborhood(), tensors(graph, heads, 8, 8)

    def repeated(q, k, v, bias):
        return neighbor_attention(q, k, v, nbr, bias.expand(-1, heads))

    with use(implementation):
        found = output_and_gradients(lambda *x: neighbor_attention(*x[:3], nbr, x[3]), [q, k, v, bias[:, :1]])
        expected = output_and_gradients(repeated, [q, k, v, bias[:, :1]])
    assert found[4].shape == (nbr.num_edges, 1)
    assert_close(found, expected)


@settings(max_examples=30)
@given(st.data())
def test_any_graph(data):
    """Graphs, sizes and scales as hypothesis invents them."""
    num_targets, num_sources = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    edges = st.tuples(st.integers(0, num_sources - 1), st.integers(0, num_targets - 1))
    edge_index = torch.tensor(data.draw(st.lists(edges, max_size=80)), dtype=torch.int64).view(-1, 2).T
    heads, dim, dim_v = (data.draw(st.integers(1, 20)) for _ in range(3))
    scale, seed = data.draw(st.sampled_from([None, 0.0, -3.0, 100.0])), data.draw(st.integers(0, 1000))
    torch.manual_seed(seed)
    nbr = Neighborhood.from_edge_index(edge_index, num_targets, num_sources)
    sizes = [(num_targets, heads, dim), (num_sources, heads, dim), (num_sources, heads, dim_v)]
    values = [torch.randn(*size, dtype=F64) for size in sizes]
    found, expected = [], []
    for results, implementation in ((found, "numba"), (expected, "reference")):
        with use(implementation):
            results += output_and_gradients(lambda *x: neighbor_attention(*x, nbr, scale=scale), values)
    assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_all_pairs_is_torchs_attention():
    nodes, heads, dim = 70, 4, 16  # more edges per target than pass together
    edge_index = torch.cartesian_prod(torch.arange(nodes), torch.arange(nodes)).T
    nbr = Neighborhood.from_edge_index(edge_index, nodes)
    values = [torch.randn(nodes, heads, dim, dtype=F64) for _ in range(3)]
    found = output_and_gradients(lambda *x: neighbor_attention(*x, nbr), values)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    expected = output_and_gradients(lambda *x: sdpa(*(t.transpose(0, 1) for t in x)).transpose(0, 1), values)
    assert_close(found, expected)


def test_one_neighbour_gives_its_value():
    source = torch.randperm(50)
    nbr = Neighborhood.from_edge_index(torch.stack([source, torch.arange(50)]), 50)
    q, k, v = (torch.randn(50, 3, 16) for _ in range(3))
    assert torch.equal(neighbor_attention(100 * q, k, v, nbr), v[source])


def test_shuffled_edges_change_nothing(small_graph):
    values, order = tensors(small_graph, 2, 3, 4), torch.randperm(small_graph.num_edges)
    nbr, shuffled = (
        Neighborhood.from_edge_index(edges, small_graph.num_targets, small_graph.num_sources)
        for edges in (small_graph.edge_index, small_graph.edge_index[:, order])
    )
    *expected, bias = output_and_gradients(lambda *x: neighbor_attention(*x[:3], nbr, x[3]), values)
    values[3] = values[3][order]
    *found, shuffled_bias = output_and_gradients(lambda *x: neighbor_attention(*x[:3], shuffled, x[3]), values)
    assert_close([*found, shuffled_bias], [*expected, bias[order]])


def test_what_stands_in_the_same_batch_changes_nothing():
    sizes, degree = (40, 25), 7
    graphs = [torch.randint(n, (2, n * degree)) for n in sizes]
    both = torch.cat([graphs[0], graphs[1] + sizes[0]], 1)
    q, k, v = (torch.randn(sum(sizes), 8, 16) for _ in range(3))
    together = neighbor_attention(q, k, v, Neighborhood.from_edge_index(both, sum(sizes)))
    parts = zip(graphs, sizes, *(x.split(sizes) for x in (q, k, v)), strict=True)
    alone = [neighbor_attention(*x, Neighborhood.from_edge_index(edges, n)) for edges, n, *x in parts]
    assert torch.equal(together, torch.cat(alone))  # to the bit


# Edges of the range


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("kv", ["node", "edge"])
def test_masked_edges_are_no_edges(kv, implementation):
    heads, num_edges = 3, 200
    edge_index = torch.randint(20, (2, num_edges))
    keep = torch.rand(num_edges) < 0.4
    keep &= edge_index[1] != 4  # a target whose every edge is masked
    bias = torch.randn(num_edges, heads, dtype=F64)
    masked = bias.masked_fill(~keep[:, None], -torch.inf)
    rows = 20 if kv == "node" else num_edges
    q, k, v = (torch.randn(n, heads, 5, dtype=F64) for n in (20, rows, rows))
    nbr, fewer = (Neighborhood.from_edge_index(edges, 20) for edges in (edge_index, edge_index[:, keep]))

    def without(q, k, v, bias):
        k, v = (x if kv == "node" else x[keep] for x in (k, v))
        return neighbor_attention(q, k, v, fewer, bias[keep], kv=kv)

    with use(implementation):
        found = output_and_gradients(lambda *x: neighbor_attention(*x[:3], nbr, x[3], kv=kv), [q, k, v, masked])
        expected = output_and_gradients(without, [q, k, v, bias])
    assert_close(found, expected)
    assert not found[0][4].any() and not found[1][4].any()
    assert not found[4][~keep].any()


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("constant", [-1e4, 1e4])
def test_a_large_constant_in_all_logits(constant, dtype, implementation):
    """It changes nothing but rounding: of 1e4, float32 keeps three digits after the point."""
    nbr = Neighborhood.from_edge_index(torch.stack([torch.arange(100), torch.arange(100) // 10]), 10, 100)
    q, k, v, bias = (torch.randn(*shape, dtype=F64) for shape in ((10, 2, 16), (100, 2, 16), (100, 2, 16), (100, 2)))
    with use("reference"):
        expected = output_and_gradients(lambda *x: neighbor_attention(*x[:3], nbr, x[3]), [q, k, v, bias])
    values = [x.to(dtype) for x in (q, k, v, bias + constant)]
    with use(implementation):
        found = output_and_gradients(lambda *x: neighbor_attention(*x[:3], nbr, x[3]), values)
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).detach().norm() / b.detach().norm()) < (2e-3 if dtype == torch.float32 else 1e-10)


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_logits_far_apart(dtype, implementation):
    """The largest takes all, and nothing overflows."""
    nbr = Neighborhood.from_edge_index(torch.stack([torch.arange(100), torch.arange(100) // 10]), 10, 100)
    q, k, v = (torch.randn(n, 2, 16, dtype=dtype) for n in (10, 100, 100))
    bias = 1e4 * torch.stack([torch.randperm(100), torch.randperm(100)], 1).to(dtype)
    with use(implementation):
        found = output_and_gradients(lambda *x: neighbor_attention(*x[:3], nbr, x[3]), [q, k, v, bias])
    largest = bias.view(10, 10, 2).argmax(1)
    assert torch.equal(found[0], v.view(10, 10, 2, 16).take_along_dim(largest[:, None, :, None], 1)[:, 0])
    assert all(x.isfinite().all() for x in found)


def test_rounding_of_huge_logits_makes_no_huge_probability():
    """Neighbouring float32 numbers are 64 apart at 1e9, and the two backward passes round differently."""
    nbr = Neighborhood.from_edge_index(torch.randint(20, (2, 400)), 20)
    q, k, v = (torch.randn(20, 8, 16) for _ in range(3))
    found = output_and_gradients(lambda *x: neighbor_attention(*x, nbr, scale=1e9), [q, k, v])
    assert found[3].abs().max() < 400  # at most 1 for each edge


@pytest.mark.parametrize("implementation", ["reference", "numba"])
def test_nan_stays_in_its_target(implementation):
    nbr = Neighborhood.from_edge_index(torch.tensor([[0, 1, 2, 0, 1], [0, 0, 0, 1, 1]]), 2, 3)
    q, k, v = (torch.ones(n, 1, 16) for n in (2, 3, 3))
    k[2, 0, 5] = torch.nan
    with use(implementation):
        out = neighbor_attention(q, k, v, nbr)
    assert out[0].isnan().all() and not out[1].isnan().any()


@pytest.mark.parametrize(("dtype", "worst"), [(np.float32, 1.3e-7), (np.float64, 3.5e-16)])
def test_exponential(dtype, worst):
    @njit
    def run(p, ds):
        _simd.softmax_backward_block(p, ds, p.shape[0], 1)

    low = -86 if dtype == np.float32 else -707
    x = np.concatenate([np.linspace(low, 0, 1 << 16), np.linspace(-1, 0, 1 << 16)]).astype(dtype)
    p, ds = x.copy(), np.full_like(x, 2)
    run(p, ds)
    exact = np.exp(x.astype(np.longdouble))
    assert float(np.abs(p / exact - 1).max()) < worst
    np.testing.assert_array_equal(ds, 2 * p)
    special = np.array([-np.inf, -1e30, low - 2, np.nan, 0, -0.0] + [0] * 10, dtype)
    run(special, np.ones_like(special))
    np.testing.assert_array_equal(special[:6], [0, 0, 0, np.nan, 1, 1])


# Dtypes and layouts


def test_non_contiguous_input(small_graph):
    nbr = small_graph.neighborhood()
    packed = torch.randn(small_graph.num_targets, 3, 4, 8, dtype=F64, requires_grad=True)
    edge = torch.randn(4, small_graph.num_edges, dtype=F64)
    q, k, v = packed.unbind(1)
    k, v = k[: small_graph.num_sources], v[: small_graph.num_sources].transpose(1, 2).contiguous().transpose(1, 2)
    found = neighbor_attention(q, k, v, nbr, edge.T)
    expected = neighbor_attention(*(x.contiguous() for x in (q, k, v)), nbr, edge.T.contiguous())
    assert torch.equal(found, expected)
    slopes = [torch.autograd.grad(out.square().sum(), packed, retain_graph=True)[0] for out in (found, expected)]
    torch.testing.assert_close(*slopes)
    # the gradient of a sum is a number spread over all places without memory of its own
    (slope,) = torch.autograd.grad(found.sum(), packed, retain_graph=True)
    torch.testing.assert_close(slope, torch.autograd.grad((expected * 1).sum(), packed)[0])


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_is_accumulated_in_float32(dtype, implementation):
    nbr = Neighborhood.from_edge_index(torch.stack([torch.arange(500), torch.zeros(500, dtype=torch.int64)]), 1, 500)
    values = [torch.randn(n, 2, 8).to(dtype) for n in (1, 500, 500)]
    with use(implementation):
        found = output_and_gradients(lambda *x: neighbor_attention(*x, nbr), values)
        exact = output_and_gradients(lambda *x: neighbor_attention(*x, nbr), [x.float() for x in values])
    assert all(x.dtype == dtype for x in found)
    assert torch.equal(found[0], exact[0].to(dtype))
    for a, b in zip(found[1:], exact[1:], strict=True):
        torch.testing.assert_close(a.float(), b, rtol=0.02, atol=1e-3)


def test_autocast(small_graph):
    nbr = small_graph.neighborhood()
    values = [x.bfloat16().requires_grad_() for x in tensors(small_graph, 2, 4, 4, bias=False)]
    with torch.autocast("cpu", torch.bfloat16):
        out = neighbor_attention(*values, nbr)
    assert out.dtype == torch.float32
    out.square().sum().backward()
    assert all(x.grad.dtype == torch.bfloat16 for x in values)


def test_dtypes_are_promoted(small_graph):
    q, k, v, bias = tensors(small_graph, 2, 4, 4)
    assert neighbor_attention(q.float(), k.bfloat16(), v.float(), small_graph.neighborhood(), bias).dtype == F64


# Derivatives and registration


@pytest.mark.parametrize("kv", ["node", "edge"])
def test_derivatives(small_graph, kv):
    nbr = small_graph.neighborhood()
    values = [x.nan_to_num(neginf=0.3).requires_grad_() for x in tensors(small_graph, 2, 3, 2, kv)]

    def attention(q, k, v, bias):
        return neighbor_attention(q, k, v, nbr, bias, kv=kv)

    assert torch.autograd.gradcheck(attention, values)
    assert torch.autograd.gradgradcheck(attention, values)

    assert {choice.operation: choice.ran for choice in explain()}["neighbor_attention"] == "numba"


@pytest.mark.parametrize("kv", ["node", "edge"])
@pytest.mark.parametrize("wanted", [w for w in itertools.product([False, True], repeat=4) if any(w)])
def test_only_the_gradients_asked_for(small_graph, wanted, kv):
    nbr, values = small_graph.neighborhood(), tensors(small_graph, 2, 3, 4, kv)
    everything = output_and_gradients(lambda *x: neighbor_attention(*x[:3], nbr, x[3], kv=kv), values)[1:]
    inputs = [x.requires_grad_(want) for x, want in zip(values, wanted, strict=True)]
    out = neighbor_attention(*inputs[:3], nbr, inputs[3], kv=kv)
    weight = torch.linspace(-1, 1, out.numel(), dtype=F64).view(out.shape)
    (out * weight).sum().backward()
    for x, want, expected in zip(inputs, wanted, everything, strict=True):
        assert (x.grad is not None) == want
        if want:
            torch.testing.assert_close(x.grad, expected)


def backward_arguments(graph, kv="node"):
    q, k, v, bias = tensors(graph, 2, 3, 4, kv)
    nbr = graph.neighborhood()
    edges = (nbr.row_ptr, nbr.source, nbr.edge_id)
    turned = (nbr.transposed.row_ptr, nbr.transposed.source, nbr.transposed.edge_id)
    return (q, k, v, bias, *edges, *turned, 0.7, kv)


def test_gradients_not_asked_for_are_not_computed(small_graph):
    arguments = backward_arguments(small_graph)
    out, lse = attention_rows(*arguments)
    for wanted in itertools.product([False, True], repeat=4):
        found = attention_rows_backward(torch.ones_like(out), *arguments, out, lse, list(wanted))
        shapes = [x.shape if want else (0, 1) for x, want in zip(arguments, wanted, strict=False)]
        assert [tuple(x.shape) for x in found] == [tuple(shape) for shape in shapes]
        assert not any(x.isnan().any() for x in found)


@pytest.mark.parametrize("kv", ["node", "edge"])
def test_opcheck(small_graph, kv):
    arguments = backward_arguments(small_graph, kv)
    out, lse = attention_rows(*arguments)
    opcheck(attention_rows_backward, (torch.ones_like(out), *arguments, out, lse, [True, False, True, True]))
    opcheck(attention_rows, (*(x.requires_grad_() for x in arguments[:4]), *arguments[4:]))
    opcheck(attention_rows, (arguments[0], *(x.detach() for x in arguments[1:3]), None, *arguments[4:]))


@pytest.mark.parametrize("kv", ["node", "edge"])
def test_compiles_without_a_graph_break(small_graph, kv):
    def loss(q, k, v, bias, edge_index):
        nbr = Neighborhood.from_edge_index(edge_index, small_graph.num_targets, small_graph.num_sources)
        return neighbor_attention(q, k, v, nbr, bias, kv=kv).square().sum()

    values = [x.requires_grad_() for x in tensors(small_graph, 2, 3, 4, kv)]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(*values, small_graph.edge_index), values)
    expected = torch.autograd.grad(loss(*values, small_graph.edge_index), values)
    assert_close([0 * found[0], *found], [0 * expected[0], *expected])


# Threads and memory


def test_threads_change_nothing(monkeypatch):
    edge_index = torch.randint(100, (2, 3000))
    edge_index[:, :1000] = 7  # a hub at both ends
    nbr = Neighborhood.from_edge_index(edge_index, 100)
    values = [torch.randn(100, 8, 16) for _ in range(3)]

    def results(_=None):
        return output_and_gradients(lambda *x: neighbor_attention(*x, nbr), values)

    expected = results()
    for count in (2, 3, 7):
        monkeypatch.setattr(_threads, "num_threads", lambda work, count=count: count)
        assert all(torch.equal(a, b) for a, b in zip(results(), expected, strict=True))
    with ThreadPoolExecutor(4) as pool:  # several Python threads at once
        for found in pool.map(results, range(8)):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_no_tensor_of_edges_by_channels():
    nodes, degree, heads, dim = 2000, 64, 8, 16
    nbr = Neighborhood.from_edge_index(
        torch.stack([torch.randint(nodes, (nodes * degree,)), torch.arange(nodes).repeat_interleave(degree)]), nodes
    )
    values = [torch.randn(nodes, heads, dim) for _ in range(3)]

    def status(field):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field))

    output_and_gradients(lambda *x: neighbor_attention(*x, nbr), values)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = status("VmRSS")
    output_and_gradients(lambda *x: neighbor_attention(*x, nbr), values)
    edges_by_channels = 4 * nodes * degree * heads * dim / 1024
    assert status("VmHWM") - before < edges_by_channels / 2


# Arguments


def test_wrong_arguments(small_graph):
    nbr = small_graph.neighborhood()
    q, k, v = tensors(small_graph, 2, 3, 4, bias=False)
    with pytest.raises(ShapeError, match=r"q: got shape \(4, 2, 3\), expected \[N, \.\.\.\] with N = 5"):
        neighbor_attention(q[1:], k, v, nbr)
    with pytest.raises(ShapeError, match=r"k: got shape \(3, 2, 3\), expected \[E, \.\.\.\] with E = 6"):
        neighbor_attention(q, k, v, nbr, kv="edge")
    with pytest.raises(ShapeError, match=r"k: got shape \(3, 2, 2\), expected \[Ns, H, D\] with H, D as in q"):
        neighbor_attention(q, k[:, :, 1:], v, nbr)
    with pytest.raises(ShapeError, match=r"v: got shape \(3, 8\), expected \[Ns, H, Dv\]"):
        neighbor_attention(q, k, v.flatten(1), nbr)
    with pytest.raises(ShapeError, match=r"bias: got shape \(6, 3\), expected \[E, H\] or \[E, 1\] with H as in q"):
        neighbor_attention(q, k, v, nbr, torch.randn(6, 3))
    with pytest.raises(ShapeError, match="kv: got 'nodes', expected 'node' or 'edge'. Did you mean 'node'"):
        neighbor_attention(q, k, v, nbr, kv="nodes")
    with pytest.raises(ShapeError, match="D at least 1"):
        neighbor_attention(q[:, :, :0], k[:, :, :0], v, nbr)
    with pytest.raises(ShapeError, match="v: got dtype torch.int64, expected a floating-point dtype"):
        neighbor_attention(q, k, v.long(), nbr)


def test_what_ran_is_explained(small_graph):
    q, k, v, _ = tensors(small_graph, 2, 3, 4)
    neighbor_attention(q, k, v, small_graph.neighborhood())
    assert str(next(c for c in explain() if c.operation == "neighbor_attention")).startswith(
        "neighbor_attention (cpu, float64): numba"
    )
    assert importlib.import_module("geoattn.kernels.neighbor_attention.cpu") is cpu
