"""Matrix groups: the defect is 0 on the group and nowhere else, and the projection commutes with the group."""

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.geometry import MatrixGroup
from geoattn.testing import random_orthogonal

F64 = torch.float64
ETA = torch.diag(torch.tensor([1.0, -1, -1, -1], dtype=F64))


def lorentz(rapidity, reverse=False):
    """A rotation, a boost along x, another rotation: every Lorentz transformation that keeps time's direction."""
    matrix = torch.eye(4, dtype=F64)
    for part in ("rotation", "boost", "rotation"):
        factor = torch.eye(4, dtype=F64)
        if part == "boost":
            cosh, sinh = torch.cosh(torch.tensor(rapidity, dtype=F64)), torch.sinh(torch.tensor(rapidity, dtype=F64))
            factor[0, 0] = factor[1, 1] = cosh
            factor[0, 1] = factor[1, 0] = sinh
        else:
            factor[1:, 1:] = random_orthogonal(3)
        matrix = matrix @ factor
    return -matrix if reverse else matrix


GROUPS = {
    "SO(3)": (MatrixGroup.rotations(3), lambda: random_orthogonal(3)),
    "O(4)": (MatrixGroup.orthogonal(4), lambda: random_orthogonal(4, -1)),
    "O(1,3)": (MatrixGroup.lorentz(), lambda: lorentz(1.0)),
}


@pytest.mark.parametrize("name", GROUPS)
def test_defect_inverse_and_products(name):
    group, element = GROUPS[name]
    matrix = element()
    assert group.defect(matrix) < 1e-13
    torch.testing.assert_close(group.inverse(matrix) @ matrix, torch.eye(group.dim, dtype=F64), atol=1e-12, rtol=0)
    assert group.defect(matrix + 0.1 * torch.randn_like(matrix)) > 1e-2
    points = torch.randn(5, group.dim, dtype=F64)
    torch.testing.assert_close(
        group.product(points @ matrix.T, points @ matrix.T), group.product(points, points), atol=1e-9, rtol=0
    )


def test_reflections_are_no_rotations():
    mirror = random_orthogonal(3, -1)
    assert MatrixGroup.orthogonal(3).defect(mirror) < 1e-13
    assert MatrixGroup.rotations(3).defect(mirror) > 1


@pytest.mark.parametrize("rapidity", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("reverse", [False, True])
def test_lorentz_projection(rapidity, reverse):
    group, element = MatrixGroup.lorentz(), lorentz(rapidity, reverse)
    near = element @ (torch.eye(4, dtype=F64) + 0.1 * torch.randn(20, 4, 4, dtype=F64).clamp(-1, 1))
    assert group.defect(near).min() > 1e-3
    projected = group.project(near)
    assert group.defect(projected).max() < 1e-10
    turn = lorentz(1.0)
    scale = projected.abs().max()
    assert (group.project(turn @ near) - turn @ projected).abs().max() < 1e-11 * scale * turn.abs().max()
    momenta = torch.randn(6, 4, dtype=F64)
    boosted = momenta @ projected[0].T
    torch.testing.assert_close(group.product(boosted, boosted), group.product(momenta, momenta), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", GROUPS)
def test_projection_leaves_the_group_alone_and_is_differentiable(name):
    group, element = GROUPS[name]
    matrix = element()
    torch.testing.assert_close(group.project(matrix), matrix, atol=1e-12, rtol=0)
    near = (matrix + 0.05 * torch.randn_like(matrix)).requires_grad_()
    assert torch.autograd.gradcheck(group.project, near, atol=1e-6)
    assert torch.autograd.gradcheck(group.defect, near, atol=1e-6)


def test_a_matrix_too_far_away_has_a_defect_and_no_exception():
    group = MatrixGroup.lorentz()
    time_like_thrice = torch.diag(torch.tensor([0.0, 1, 1, 1], dtype=F64))
    assert not group.defect(group.project(time_like_thrice)) < 1e-6
    (gradient,) = torch.autograd.grad(group.defect(leaf := torch.zeros(4, 4, requires_grad=True)), leaf)
    assert gradient.isfinite().all()


def test_shape_is_checked():
    with pytest.raises(ShapeError, match=r"\[..., 4, 4\]"):
        MatrixGroup.lorentz().project(torch.eye(3))
