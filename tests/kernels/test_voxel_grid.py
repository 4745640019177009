import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoattn.errors import ShapeError
from geoattn.kernels import segment_reduce, voxel_grid


def by_hand(x, size, ptr, origin):
    """Independent formula: a dictionary of (graph, cell) in the order of its sorted keys."""
    points = {}
    for graph, (begin, end) in enumerate(itertools.pairwise(ptr)):
        for i in range(begin, end):
            cell = tuple(int(np.floor((x[i, d] - origin[d]) / size)) for d in range(x.shape[1]))
            points.setdefault((graph, *cell), []).append(i)
    return dict(sorted(points.items()))


def assert_equals_by_hand(x, size, ptr=None, origin=None):
    grid = voxel_grid(x, size, ptr=ptr, origin=origin)
    starts = [0, len(x)] if ptr is None else ptr.tolist()
    corner = np.zeros(x.shape[1]) if origin is None else origin.double().numpy()
    expected = by_hand(x.double().numpy(), size, starts, corner)
    assert grid.cells.tolist() == [list(cell) for _, *cell in expected]
    assert grid.first.tolist() == [points[0] for points in expected.values()]
    for row, points in enumerate(expected.values()):
        assert (grid.cell_of_point[points] == row).all()
    graphs = [graph for graph, *_ in expected]
    assert grid.ptr.tolist() == [sum(g < graph for g in graphs) for graph in range(len(starts))]
    return grid


@pytest.mark.parametrize("dim", [1, 2, 3, 16])
@pytest.mark.parametrize("num", [0, 1, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_a_dictionary(num, dim, dtype):
    x = torch.randn(num, dim, dtype=dtype)
    assert_equals_by_hand(x, 0.7)
    assert_equals_by_hand(x, 3, origin=torch.full((dim,), 0.3))


@given(
    st.lists(st.tuples(*[st.floats(-1e9, 1e9, width=32)] * 2), max_size=20), st.floats(1e-6, 1e9), st.integers(0, 20)
)
def test_equals_a_dictionary_on_any_points(points, size, cut):
    x = torch.tensor(points, dtype=torch.float32).reshape(-1, 2)
    assert_equals_by_hand(x, size, ptr=torch.tensor([0, 0, min(cut, len(x)), len(x)]))


def test_negative_coordinates_and_faces():
    x = torch.tensor([-1.5, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 1.5])[:, None]
    assert voxel_grid(x, 1.0).cells.flatten().tolist() == [-2, -1, 0, 1]
    assert voxel_grid(x, 1.0).cell_of_point.tolist() == [0, 1, 1, 2, 2, 2, 3, 3]


def test_a_ragged_batch_with_empty_graphs():
    ptr = torch.tensor([0, 0, 40, 41, 41, 100, 100])
    assert_equals_by_hand(torch.randn(100, 3), 1.0, ptr)
    same = voxel_grid(torch.zeros(3, 2), 1.0, ptr=torch.tensor([0, 2, 3]))
    assert same.cell_of_point.tolist() == [0, 0, 1]  # one place, but two graphs
    assert voxel_grid(torch.zeros(0, 2), 1.0, ptr=torch.tensor([0])).ptr.tolist() == [0]


@pytest.mark.parametrize("width", [1e6, 1e15])
def test_cells_of_a_wide_cloud_do_not_collide(width):
    """2e7 and 2e16 cells to a side: more than 2^63 in all."""
    x = (torch.rand(2000, 3, dtype=torch.float64) - 0.5) * width
    grid = assert_equals_by_hand(torch.cat([x, x + 0.001]), 0.05)
    # cells that coincide in a linear index of 64 bits
    x = torch.tensor([[0.0, 0, 0], [2.0**24, 0, 0], [0, 2.0**40, 0], [2.0**40, 2.0**40, 2.0**40]]).double()
    assert len(voxel_grid(x, 2.0**-10).cells) == 4
    assert len(grid.cells) > 1000


def test_means_of_cells_and_thinning():
    x = torch.randn(500, 3, dtype=torch.float64)
    grid = voxel_grid(x, 0.8)
    mean = segment_reduce(x, grid.neighborhood, "mean")
    for row, cell in enumerate(grid.cells):
        inside = (np.floor(x.numpy() / 0.8) == cell.numpy()).all(1)
        np.testing.assert_allclose(mean[row].numpy(), x.numpy()[inside].mean(0))
    assert torch.equal(voxel_grid(x[grid.first], 0.8).cells, grid.cells)


def test_permutation_and_shifts_by_whole_cells():
    x, order = torch.randn(300, 3), torch.randperm(300)
    grid, permuted = voxel_grid(x, 0.5), voxel_grid(x[order], 0.5)
    assert torch.equal(permuted.cells, grid.cells)
    assert torch.equal(permuted.cell_of_point, grid.cell_of_point[order])
    shifted = voxel_grid(x.double() + torch.tensor([2.0, -8.0, 0.5]), 0.5)
    assert torch.equal(shifted.cells, grid.cells + torch.tensor([4, -16, 1]))


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda x: voxel_grid(x[0], 1.0), "x"),
        (lambda x: voxel_grid(x / 0, 1.0), "x"),
        (lambda x: voxel_grid(x, 0.0), "size"),
        (lambda x: voxel_grid(x, float("nan")), "size"),
        (lambda x: voxel_grid(x, torch.ones(3)), "size"),
        (lambda x: voxel_grid(x, 1e-30), "size"),
        (lambda x: voxel_grid(x, 1.0, ptr=torch.tensor([0, 9])), "ptr"),
        (lambda x: voxel_grid(x, 1.0, origin=torch.zeros(2)), "origin"),
        (lambda x: voxel_grid(x, 1.0, origin=torch.full((3,), torch.nan)), "origin"),
        (lambda x: voxel_grid(x, 1.0, origin=0.0), "origin"),
    ],
)
def test_arguments_that_do_not_fit_are_named(call, argument):
    with pytest.raises(ShapeError, match=rf"^{argument}: "):
        call(torch.rand(10, 3))


@pytest.mark.gpu
def test_gpu_equals_cpu():
    x, ptr = torch.randn(1000, 3), torch.tensor([0, 20, 20, 1000])
    expected, found = voxel_grid(x, 0.3, ptr=ptr), voxel_grid(x.cuda(), 0.3, ptr=ptr.cuda())
    for name in ("cell_of_point", "cells", "ptr", "first"):
        assert torch.equal(getattr(found, name).cpu(), getattr(expected, name))
