"""gather_dot and segment_matmul: against loops over edges, derivatives of both orders, precision, errors."""

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, gather_dot, segment_matmul, use

F64 = torch.float64


def edge_by_edge(graph, width, row):
    rows = [row(edge, source, target) for edge, (source, target) in enumerate(graph.edge_index.T.tolist())]
    return torch.stack(rows) if rows else torch.zeros(0, *width, dtype=F64)


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (0, 4)])
def test_gather_dot_edge_by_edge(graph, shape, implementation):
    x, y = (torch.randn(n, *shape, dtype=F64) for n in (graph.num_sources, graph.num_targets))
    with use(implementation):
        found = gather_dot(x, y, graph.neighborhood())
    expected = edge_by_edge(graph, shape[:-1], lambda e, j, i: torch.linalg.vecdot(x[j], y[i]))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("widths", [(4, 3), (5, 1), (1, 8)])
def test_segment_matmul_edge_by_edge(graph, widths, implementation):
    u = torch.randn(graph.num_edges, widths[0], dtype=F64)
    z = torch.randn(graph.num_targets, *widths, dtype=F64)
    with use(implementation):
        found = segment_matmul(u, z, graph.neighborhood())
    torch.testing.assert_close(found, edge_by_edge(graph, widths[1:], lambda e, j, i: u[e] @ z[i]))


@pytest.mark.parametrize("implementation", ["reference", "numba"])
def test_derivatives(small_graph, implementation):
    nbr = small_graph.neighborhood()
    x, y, u, z = (
        torch.randn(*shape, dtype=F64, requires_grad=True)
        for shape in ((3, 2, 3), (5, 2, 3), (small_graph.num_edges, 3), (5, 3, 2))
    )
    with use(implementation):
        for function, arguments in ((gather_dot, (x, y)), (segment_matmul, (u, z))):
            torch.autograd.gradcheck(lambda *a, f=function: f(*a, nbr), arguments)
            torch.autograd.gradgradcheck(lambda *a, f=function: f(*a, nbr), arguments)


def test_sixteen_bits_are_computed_in_32(small_graph):
    nbr = small_graph.neighborhood()
    x, y = torch.randn(3, 100).bfloat16(), torch.randn(5, 100).bfloat16()
    found = gather_dot(x, y, nbr)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, gather_dot(x.float(), y.float(), nbr).bfloat16())


def test_wrong_arguments_are_named():
    nbr = Neighborhood.from_edge_index(torch.tensor([[1], [0]]), 2)
    x = torch.randn(2, 3)
    for message, call in {
        "x: got shape (3, 2)": lambda: gather_dot(torch.randn(3, 2), x, nbr),
        "y: got shape (2, 4)": lambda: gather_dot(x, torch.randn(2, 4), nbr),
        "u: got shape (1,)": lambda: segment_matmul(torch.randn(1), torch.randn(2, 3, 1), nbr),
        "z: got shape (2, 3)": lambda: segment_matmul(torch.randn(1, 3), x, nbr),
        "nbr: got Tensor": lambda: gather_dot(x, x, torch.tensor([[1], [0]])),
    }.items():
        with pytest.raises(ShapeError) as error:
            call()
        assert message in str(error.value)
