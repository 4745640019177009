"""Arguments of the wrong type: one error that says what to hand over."""

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.kernels import (
    BilinearTable,
    Neighborhood,
    gather_dot,
    gather_scatter,
    gather_silu,
    neighbor_attention,
    segment_matmul,
    segment_outer,
    segment_reduce,
    segment_softmax,
    sparse_bilinear,
)

EDGES = torch.tensor([[1, 0], [0, 0]])
NBR = Neighborhood.from_edge_index(EDGES, num_targets=2)
TABLE = BilinearTable.from_dense(torch.ones(1, 1, 1))
X = torch.ones(2, 1)
X3 = torch.ones(2, 1, 1)
CALLS = {
    neighbor_attention: {"q": X3, "k": X3, "v": X3, "nbr": NBR, "bias": X},
    gather_scatter: {"x": X, "weight": X, "nbr": NBR},
    gather_dot: {"x": X, "y": X, "nbr": NBR},
    gather_silu: {"at_target": X, "at_source": X, "at_edge": X, "nbr": NBR},
    segment_outer: {"u": X, "t": X, "nbr": NBR},
    segment_matmul: {"u": X, "z": X3, "nbr": NBR},
    segment_reduce: {"x": X, "nbr": NBR},
    segment_softmax: {"x": X, "nbr": NBR},
    sparse_bilinear: {"x": X3, "y": X, "table": TABLE, "weight": X3, "nbr": NBR},
}
HINTS = {
    "Tensor": r"torch.as_tensor",
    "Neighborhood": r"Neighborhood.from_edge_index\(edge_index, num_targets\)",
    "BilinearTable": r"BilinearTable.from_dense",
}


WRONG = {"list": [[1.0], [1.0]], r"Tensor of shape \(2, 2\)": EDGES}
CASES = [
    (operation, argument, got)
    for operation, arguments in CALLS.items()
    for argument, right in arguments.items()
    for got, wrong in WRONG.items()
    if not isinstance(wrong, type(right))
]


@pytest.mark.parametrize(("operation", "argument", "got"), CASES)
def test_the_error_names_the_argument(operation, argument, got):
    arguments = CALLS[operation]
    operation(**arguments)
    expected = type(arguments[argument]).__name__
    with pytest.raises(ShapeError, match=f"^{argument}: got {got}, expected a {expected}. .*{HINTS[expected]}"):
        operation(**{**arguments, argument: WRONG[got]})


def test_a_list_of_edges():
    with pytest.raises(ShapeError, match="^edge_index: got list, expected a Tensor"):
        Neighborhood.from_edge_index([[1, 0], [0, 0]], num_targets=2)
