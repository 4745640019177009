import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.library import opcheck

from geoattn.errors import ShapeError
from geoattn.kernels import BilinearTable, Neighborhood, explain, sparse_bilinear, use
from geoattn.kernels.sparse_bilinear import contract

F64 = torch.float64
TOLERANCE = {torch.float32: {"rtol": 1e-4, "atol": 1e-4}, F64: {"rtol": 1e-11, "atol": 1e-11}}
SHARED = pytest.mark.parametrize("shared", [True, False], ids=["y shared", "y per channel"])
WEIGHTED = pytest.mark.parametrize("weighted", [True, False], ids=["weights", "no weights"])


def random_table(size_x=4, size_y=3, size_out=5, paths=3, density=0.3, seed=0):
    """A sparse table whose last component of each index and last path occur in no row unless by chance."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(size_x, size_y, size_out, generator=generator, dtype=F64)
    dense *= torch.rand(dense.shape, generator=generator) < density
    path = torch.randint(paths, dense.shape, generator=generator)
    i, j, k = dense.nonzero(as_tuple=True)
    return BilinearTable(i, j, k, path[i, j, k], dense[i, j, k], (size_x, size_y, size_out, paths))


def inputs(table, rows, edges, channels, shared, weighted, dtype=F64):
    size_x, size_y, _, paths = table.sizes
    leaves = [torch.randn(rows, size_x, channels, dtype=dtype)]
    leaves.append(torch.randn(edges, size_y, *(() if shared else (channels,)), dtype=dtype))
    if weighted:
        leaves.append(torch.randn(edges, paths, channels, dtype=dtype))
    return leaves


def dense_formula(table, x, y, weight=None, edge_index=None, num_targets=None):
    """Independent: the table as a dense tensor with an axis of paths."""
    dense = torch.zeros(*table.sizes, dtype=x.dtype)
    dense.index_put_((table.index_x, table.index_y, table.index_out, table.path), table.value.to(x.dtype), True)
    x = x if edge_index is None else x[edge_index[0]]
    weight = x.new_ones(x.shape[0], table.sizes[3], x.shape[2]) if weight is None else weight
    y = y[:, :, None].expand(*y.shape, x.shape[2]) if y.ndim == 2 else y
    z = torch.einsum("ijkp,eic,ejc,epc->ekc", dense, x, y, weight)
    return z if edge_index is None else z.new_zeros(num_targets, *z.shape[1:]).index_add(0, edge_index[1], z)


def derivatives(function, leaves):
    """The output, all first gradients and all second ones."""
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    z = function(*leaves)
    slope = torch.linspace(-1, 1, z.numel(), dtype=z.dtype).view(z.shape)
    grads = torch.autograd.grad((z + z.square() / 2).mul(slope).sum(), leaves, create_graph=True)
    bend = sum((torch.linspace(-1, 2, g.numel(), dtype=g.dtype).view(g.shape) * g).sum() for g in grads)
    return z, *grads, *torch.autograd.grad(bend, leaves)


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[a.dtype])


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@SHARED
@WEIGHTED
def test_dense_formula_over_neighbours(graph, shared, weighted, implementation):
    table, nbr = random_table(), graph.neighborhood()
    leaves = inputs(table, graph.num_sources, graph.num_edges, 3, shared, weighted)
    with use(implementation):
        found = derivatives(lambda x, y, w=None: sparse_bilinear(x, y, table, w, nbr), leaves)
    ends = {"edge_index": graph.edge_index, "num_targets": graph.num_targets}
    assert_same(found, derivatives(lambda x, y, w=None: dense_formula(table, x, y, w, **ends), leaves))


@pytest.mark.parametrize("channels", [0, 1, 7, 16, 100])
@SHARED
@WEIGHTED
def test_dense_formula_row_by_row(channels, shared, weighted):
    table = random_table()
    for dtype, edges in ((F64, 5), (torch.float32, 5), (F64, 0)):
        leaves = inputs(table, edges, edges, channels, shared, weighted, dtype)
        found = derivatives(lambda x, y, w=None: sparse_bilinear(x, y, table, w), leaves)
        assert_same(found, derivatives(lambda x, y, w=None: dense_formula(table, x, y, w), leaves))
    assert {choice.operation: choice.ran for choice in explain()}["sparse_bilinear"] == "numba"


@settings(max_examples=25)
@given(
    st.tuples(*[st.integers(1, 6)] * 4),
    st.integers(1, 40),
    st.integers(0, 9),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 99),
)
def test_any_sizes(sizes, channels, edges, density, shared, seed):
    table = random_table(*sizes, density, seed)
    nbr = Neighborhood.from_edge_index(torch.randint(3, (2, edges)), 4, 3)
    leaves = inputs(table, 3, edges, channels, shared, True)
    found = derivatives(lambda x, y, w: sparse_bilinear(x, y, table, w, nbr), leaves)
    ends = {"edge_index": nbr.edge_index, "num_targets": 4}
    assert_same(found, derivatives(lambda x, y, w: dense_formula(table, x, y, w, **ends), leaves))


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("over_edges", [True, False])
@SHARED
def test_derivatives(small_graph, over_edges, shared, implementation):
    table = random_table(2, 2, 2, 2, 0.6)
    nbr = small_graph.neighborhood() if over_edges else None
    rows = small_graph.num_sources if over_edges else 2
    leaves = inputs(table, rows, small_graph.num_edges if over_edges else 2, 1 if over_edges else 2, shared, True)
    leaves = [leaf.requires_grad_() for leaf in leaves]

    def curved(x, y, weight):
        return sparse_bilinear(x, y, table, weight, nbr).square()

    def slope(*leaves):
        return torch.autograd.grad(curved(*leaves).sum(), leaves, create_graph=True)

    with use(implementation):
        assert torch.autograd.gradcheck(curved, leaves)
        assert torch.autograd.gradgradcheck(curved, leaves)
        if not over_edges:
            assert torch.autograd.gradgradcheck(slope, leaves)


def test_no_gradient_that_nobody_asked_for(small_graph, monkeypatch):
    module = importlib.import_module("geoattn.kernels.sparse_bilinear")
    table, nbr, slots = random_table(), small_graph.neighborhood(), []
    x, y, weight = inputs(table, small_graph.num_sources, small_graph.num_edges, 2, True, True)
    original = module.contract
    monkeypatch.setattr(module, "contract", lambda slot, *others: slots.append(slot) or original(slot, *others))
    sparse_bilinear(x, y.requires_grad_(), table, weight, nbr).sum().backward()
    assert slots == [3, 1]
    assert nbr._transposed is None  # only the gradient of x needs the edges by source
    sparse_bilinear(x.requires_grad_(), y.detach(), table, weight.requires_grad_(), nbr).sum().backward()
    assert slots == [3, 1, 3, 0, 2]


def test_no_tensor_of_edges_and_components_in_any_derivative():
    """The largest block of memory of forward, backward and its backward is a weight's or a node's."""
    table = random_table(9, 4, 9, 2, 0.2)
    nodes, edges, channels = 20, 2000, 16
    nbr = Neighborhood.from_edge_index(torch.randint(nodes, (2, edges)), nodes)
    leaves = inputs(table, nodes, edges, channels, True, True, torch.float32)

    def step():
        derivatives(lambda x, y, w: sparse_bilinear(x, y, table, w, nbr), leaves)

    step()  # compiles
    for implementation, edge_sized in (("numba", False), ("reference", True)):
        with use(implementation), torch.profiler.profile(profile_memory=True) as profile:
            step()
        largest = max(event.self_cpu_memory_usage for event in profile.events())
        assert (largest >= edges * 9 * channels * 4) is edge_sized


def test_shuffled_edges_change_nothing():
    table, edge_index, order = random_table(), torch.randint(9, (2, 100)), torch.randperm(100)
    x, y, weight = inputs(table, 9, 100, 4, True, True)
    nbr, shuffled = (Neighborhood.from_edge_index(edges, 9) for edges in (edge_index, edge_index[:, order]))
    expected = derivatives(lambda x, y, w: sparse_bilinear(x, y, table, w, nbr), (x, y, weight))
    found = derivatives(
        lambda x, y, w: sparse_bilinear(x, y[order], table, w[order], shuffled),
        (x, y, weight),
    )
    assert_same(found, expected)


def test_rows_of_the_table_that_repeat_add_up():
    i, j, k, p = torch.tensor([[0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]])
    twice = BilinearTable(i, j, k, p, torch.tensor([1.0, 2, 2, 1]), (2, 1, 2, 1))
    once = BilinearTable(i[:2], j[:2], k[:2], p[:2], torch.tensor([2.0, 4]), (2, 1, 2, 1))
    x, y = inputs(once, 3, 3, 2, True, False)
    torch.testing.assert_close(sparse_bilinear(x, y, twice), sparse_bilinear(x, y, once))


def test_a_table_without_coefficients_gives_zero():
    table = BilinearTable.from_dense(torch.zeros(2, 3, 4))
    x, y = (t.requires_grad_() for t in inputs(table, 3, 3, 5, True, False))
    z = sparse_bilinear(x, y, table)
    z.sum().backward()
    assert z.shape == (3, 4, 5)
    assert not (z.any() or x.grad.any() or y.grad.any())


def test_quaternions():
    """A known algebra: i j = k, and the norm of a product is the product of norms."""
    dense = torch.zeros(4, 4, 4, dtype=F64)
    for a, b, c, sign in [(1, 2, 3, 1), (2, 3, 1, 1), (3, 1, 2, 1)]:
        dense[a, b, c], dense[b, a, c] = sign, -sign
    for a in range(4):
        dense[0, a, a] = dense[a, 0, a] = 1
        dense[a, a, 0] = 1 if a == 0 else -1
    table = BilinearTable.from_dense(dense)
    p, q = torch.randn(2, 10, 4, 3, dtype=F64)
    z = sparse_bilinear(p, q, table)
    torch.testing.assert_close(z.norm(dim=1), p.norm(dim=1) * q.norm(dim=1))
    one = torch.eye(4, dtype=F64)[:, :, None]
    assert sparse_bilinear(one[1:2], one[2:3], table).flatten().tolist() == [0, 0, 0, 1]


@SHARED
def test_non_contiguous_inputs(small_graph, shared):
    table, nbr = random_table(), small_graph.neighborhood()
    leaves = inputs(table, small_graph.num_sources, small_graph.num_edges, 3, shared, True)
    turned = [leaf.transpose(0, -1).contiguous().transpose(0, -1) for leaf in leaves]
    assert not any(leaf.is_contiguous() for leaf in turned)
    expected = derivatives(lambda x, y, w: sparse_bilinear(x, y, table, w, nbr), leaves)
    assert_same(derivatives(lambda x, y, w: sparse_bilinear(x, y, table, w, nbr), turned), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_is_accumulated_in_float32(dtype):
    nbr = Neighborhood.from_edge_index(torch.stack([torch.arange(500), torch.zeros(500, dtype=torch.int64)]), 1, 500)
    table = BilinearTable.from_dense(torch.ones(1, 1, 1))
    x, y = torch.rand(500, 1, 3, dtype=dtype), torch.rand(500, 1, dtype=dtype)
    z = sparse_bilinear(x, y, table, None, nbr)
    assert z.dtype == dtype
    torch.testing.assert_close(z[0, 0], (x[:, 0].float() * y.float()).sum(0).to(dtype))


def test_dtypes_are_promoted_and_gradients_come_back_in_them(small_graph):
    table, nbr = random_table(), small_graph.neighborhood()
    x, y, weight = inputs(table, small_graph.num_sources, small_graph.num_edges, 3, True, True, torch.float32)
    x, y, weight = x.bfloat16().requires_grad_(), y.double().requires_grad_(), weight.requires_grad_()
    z = sparse_bilinear(x, y, table, weight, nbr)
    z.sum().backward()
    found = (z.dtype, x.grad.dtype, y.grad.dtype, weight.grad.dtype)
    assert found == (F64, torch.bfloat16, F64, torch.float32)


def test_autocast(small_graph):
    table, nbr = random_table(), small_graph.neighborhood()
    x, y, weight = inputs(table, small_graph.num_sources, small_graph.num_edges, 3, True, True, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        z = sparse_bilinear(x.requires_grad_(), y.bfloat16(), table, weight, nbr)
    assert z.dtype == torch.float32
    z.sum().backward()
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("shared", "over_edges", "slots"),
    [
        pytest.param(True, True, (0, 1, 2, 3), id="shared y over edges"),
        pytest.param(False, False, (1, 3), id="y per channel row by row"),
    ],
)
def test_opcheck(small_graph, shared, over_edges, slots):
    table, pointers = random_table(), (None,) * 6
    rows = edges = 6
    if over_edges:
        nbr, rows = small_graph.neighborhood(), small_graph.num_sources
        back = nbr.transposed
        pointers = nbr.row_ptr, nbr.source, nbr.edge_id, back.row_ptr, back.source, back.edge_id
    x, y, weight = (t.requires_grad_() for t in inputs(table, rows, edges, 2, shared, True))
    z = torch.randn(small_graph.num_targets if over_edges else edges, 5, 2, dtype=F64, requires_grad=True)
    of_table = (shared, *table.plan(x.device, F64), table.layout)
    for slot in slots:
        operands = [None if at == slot else t for at, t in enumerate((x, y, weight, z))]
        opcheck(contract, (slot, *operands, *of_table, *pointers))
    opcheck(contract, (3, x, y, None, None, *of_table, *pointers))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_a_graph_break(dynamic):
    table = random_table()

    def loss(x, y, weight, edge_index):
        nbr = Neighborhood.from_edge_index(edge_index, x.shape[0])
        return sparse_bilinear(x, y, table, weight, nbr).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for edges in (20, 30):
        leaves = [leaf.requires_grad_() for leaf in inputs(table, 5, edges, 3, True, True)]
        edge_index = torch.randint(5, (2, edges))
        found = torch.autograd.grad(compiled(*leaves, edge_index), leaves)
        assert_same(found, torch.autograd.grad(loss(*leaves, edge_index), leaves))


def test_wrong_arguments(small_graph):
    table, nbr = random_table(), small_graph.neighborhood()  # sizes (4, 3, 5, 3); 6 edges, 5 targets, 3 sources
    x, y, weight = inputs(table, 3, 6, 2, True, True)
    with pytest.raises(ShapeError, match=r"x: got shape \(3, 5, 2\), expected \[Ns, 4, C\] for this table"):
        sparse_bilinear(torch.randn(3, 5, 2), y, table, weight, nbr)
    with pytest.raises(ShapeError, match=r"x: got shape \(6, 4, 2\), expected \[Ns, \.\.\.\] with Ns = 3"):
        sparse_bilinear(torch.randn(6, 4, 2), y, table, weight, nbr)
    with pytest.raises(ShapeError, match=r"y: got shape \(6, 3, 1\), expected \(6, 3\) or \(6, 3, 2\)"):
        sparse_bilinear(x, y[:, :, None], table, weight, nbr)
    with pytest.raises(ShapeError, match=r"y: got shape \(6, 3\), expected \(3, 3\)"):
        sparse_bilinear(x, y, table)
    with pytest.raises(ShapeError, match=r"weight: got shape \(6, 3, 1\), expected \(6, 3, 2\)"):
        sparse_bilinear(x, y, table, weight[:, :, :1], nbr)
    with pytest.raises(ShapeError, match=r"y: got dtype torch.int64, expected a floating-point dtype"):
        sparse_bilinear(x, y.long(), table, weight, nbr)


def test_wrong_tables():
    index, value = torch.tensor([0, 1]), torch.tensor([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"index_out: got values 0 to 1, expected 0 to 0"):
        BilinearTable(index, index, index, index, value, (2, 2, 1, 2))
    with pytest.raises(ShapeError, match=r"path: got shape \(1,\), expected \[T\] as value, \(2,\)"):
        BilinearTable(index, index, index, index[:1], value, (2, 2, 2, 2))
    with pytest.raises(ShapeError, match=r"index_y: got dtype torch.float32, expected an integer dtype"):
        BilinearTable(index, value, index, index, value, (2, 2, 2, 2))
    with pytest.raises(ShapeError, match=r"tensor: got shape \(2, 2\), expected \[I, J, K\]"):
        BilinearTable.from_dense(torch.eye(2))
    with pytest.raises(ShapeError, match=r"path: got shape \(2,\), expected that of tensor, \(2, 2, 2\)"):
        BilinearTable.from_dense(torch.ones(2, 2, 2), index)


def test_table_from_dense_keeps_paths():
    path = torch.tensor([[[0, 4]]])
    table = BilinearTable.from_dense(torch.tensor([[[2.0, 3.0]]]), path)
    assert (table.sizes, table.path.tolist(), table.value.tolist()) == ((1, 1, 2, 5), [0, 4], [2, 3])
