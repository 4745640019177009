"""Frames turn with their points, are finite for every input, and their derivatives are right."""

import math

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.geometry import pca_frames
from geoattn.geometry.frames import eigh
from geoattn.testing import random_orthogonal

F64 = torch.float64
CUBE = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=F64)
METHANE = torch.cat([torch.zeros(1, 3, dtype=F64), CUBE[[0, 3, 5, 6]]])
LINE = torch.arange(4, dtype=F64)[:, None] * torch.tensor([1.0, 2.0, -1.0], dtype=F64)
DEGENERATE = {
    "cube": CUBE,
    "methane": METHANE,
    "line": LINE,
    "one point": torch.ones(1, 3, dtype=F64),
    "two points": LINE[:2],
    "equal points": torch.full((5, 3), 0.1, dtype=F64),
    "square": torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], dtype=F64),
}


def canonical(pos, frames):
    """Points in each frame of a single cloud, frames sorted, since their order means nothing."""
    seen = (pos - frames.center[0]) @ frames.rotation[0]
    return seen[sorted(range(len(seen)), key=lambda f: seen[f].pow(3).sum(0).tolist())]


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
@pytest.mark.parametrize("special", [True, False])
def test_frames_turn_with_the_points(dim, special):
    pos = torch.randn(9, dim, dtype=F64)
    frames = pca_frames(pos, special=special)
    assert frames.rotation.shape == (1, 2 ** (dim - special), dim, dim)
    identity = torch.eye(dim, dtype=F64).expand_as(frames.rotation)
    torch.testing.assert_close(frames.rotation.mT @ frames.rotation, identity, atol=1e-13, rtol=0)
    for determinant in (1,) if special else (1, -1):
        turn, shift = random_orthogonal(dim, determinant), torch.randn(dim, dtype=F64)
        moved = pos @ turn.T + shift
        again = pca_frames(moved, special=special)
        torch.testing.assert_close(canonical(moved, again), canonical(pos, frames), atol=1e-12, rtol=0)
        torch.testing.assert_close(again.gap, frames.gap, atol=1e-12, rtol=0)


def test_rotations_alone_do_not_see_mirror_images_alike():
    pos = torch.randn(9, 3, dtype=F64)
    mirrored = pos * torch.tensor([-1.0, 1.0, 1.0], dtype=F64)
    there, back = canonical(pos, pca_frames(pos)), canonical(mirrored, pca_frames(mirrored))
    assert (there - back).abs().max() > 0.1
    there, back = (
        canonical(pos, pca_frames(pos, special=False)),
        canonical(mirrored, pca_frames(mirrored, special=False)),
    )
    assert (there - back).abs().max() < 1e-12


def test_determinants_and_distinct_frames():
    for special in (True, False):
        rotation = pca_frames(torch.randn(9, 3, dtype=F64), special=special).rotation[0]
        signs = torch.linalg.det(rotation).round().tolist()
        assert sorted(signs) == ([1] * 4 if special else [-1] * 4 + [1] * 4)
        assert torch.cdist(rotation.flatten(1), rotation.flatten(1)).fill_diagonal_(9).min() > 1


def test_clouds_of_a_batch_are_apart_and_no_order_counts():
    clouds = [torch.randn(n, 3, dtype=F64) + 5 for n in (6, 1, 0, 9)]
    ptr = torch.tensor([0, 6, 7, 7, 16])
    together = pca_frames(torch.cat(clouds), ptr)
    for number, cloud in enumerate(clouds):
        alone = pca_frames(cloud)
        for whole, part in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[number], part[0], atol=1e-12, rtol=0)
    shuffled = pca_frames(clouds[3][torch.randperm(9)])
    torch.testing.assert_close(canonical(clouds[3], shuffled), canonical(clouds[3], pca_frames(clouds[3])))
    assert together.gap[1:3].tolist() == [0, 0]
    assert together.center[2].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_clouds_are_finite_and_say_so(name):
    pos = DEGENERATE[name].clone().requires_grad_()
    frames = pca_frames(pos)
    assert frames.gap.item() < 1e-12
    identity = torch.eye(3, dtype=F64).expand_as(frames.rotation)
    torch.testing.assert_close(frames.rotation.mT @ frames.rotation, identity, atol=1e-12, rtol=0)
    seen = (pos - frames.center) @ frames.rotation[0]
    (gradient,) = torch.autograd.grad((seen * torch.randn_like(seen)).sum(), pos, create_graph=True)
    assert gradient.isfinite().all()
    (second,) = torch.autograd.grad(gradient.square().sum(), pos)
    assert second.isfinite().all()


def test_equal_points_far_away_have_no_gap():
    assert pca_frames(torch.full((7, 3), 12345.678, dtype=F64)).gap.item() == 0
    assert pca_frames(torch.full((7, 3), 12345.678)).gap.item() == 0


@pytest.mark.parametrize("name", ["cube", "methane", "line", "square"])
def test_samples_have_a_law_that_turns_with_the_points(name):
    """The mean over many random frames of a function with no symmetry is the same for a turned cloud, within noise."""
    pos, turn = DEGENERATE[name], random_orthogonal(3)
    weight = torch.randn(pos.shape, dtype=F64)

    def values(points, samples):
        frames = pca_frames(points, samples=samples)
        assert frames.rotation.shape[1] == 4 * (samples or 1)
        return ((points - frames.center) @ frames.rotation[0] * weight).sum((1, 2)).square().view(-1, 4).mean(1)

    one, two = values(pos, 4000), values(pos @ turn.T, 4000)
    noise = math.sqrt((one.var() + two.var()) / 4000)
    assert abs(one.mean() - two.mean()) < 4 * noise + 1e-9
    if name in ("cube", "methane"):  # the frames as they come are not invariant: the remedy is needed
        assert abs(values(pos, None).mean() - values(pos @ turn.T, None).mean()) > 4 * noise


def test_samples_leave_determined_axes_alone():
    pos = torch.randn(9, 3, dtype=F64)
    plain, sampled = canonical(pos, pca_frames(pos)), canonical(pos, pca_frames(pos, samples=1))
    torch.testing.assert_close(plain, sampled, atol=1e-12, rtol=0)
    square = DEGENERATE["square"]
    generator = torch.Generator().manual_seed(1)
    rotation = pca_frames(square, samples=50, generator=generator).rotation[0]
    assert (rotation[:, 2, 0].abs() - 1).abs().max() < 1e-12  # the axis across the plane has eigenvalue 0
    assert rotation[:, 0, 1].abs().std() > 0.1


def test_derivatives_of_the_frames():
    pos = torch.randn(5, 3, dtype=F64, requires_grad=True)
    weight = torch.randn(5, 3, dtype=F64)

    def energy(points):
        frames = pca_frames(points)
        return ((points - frames.center) @ frames.rotation[0] * weight).sum((1, 2)).cos().sum()

    assert torch.autograd.gradcheck(energy, pos, atol=1e-7)
    assert torch.autograd.gradgradcheck(energy, pos, atol=1e-6)


def test_eigh_agrees_with_torch_where_eigenvalues_differ():
    matrix = torch.randn(4, 3, 3, dtype=F64)
    ours, theirs = ((matrix @ matrix.mT).requires_grad_() for _ in range(2))
    for leaf, function in ((ours, eigh), (theirs, torch.linalg.eigh)):
        values, vectors = function(leaf)
        (values.exp().sum() + (vectors.square() * matrix).sum()).backward()
    theirs_symmetric = (theirs.grad + theirs.grad.mT) / 2
    torch.testing.assert_close(ours.grad, theirs_symmetric, atol=1e-10, rtol=1e-8)


def test_float32_to_its_own_precision():
    pos = torch.randn(20, 3)
    frames, turn = pca_frames(pos), random_orthogonal(3)
    moved = (pos.double() @ turn.T).float()
    assert frames.rotation.dtype == torch.float32
    difference = canonical(moved, pca_frames(moved)) - canonical(pos, frames)
    assert difference.abs().max() < 1e-5 / frames.gap.item()


@pytest.mark.parametrize(
    ("pos", "options", "match"),
    [
        (torch.zeros(3), {}, "pos"),
        (torch.zeros(3, 3, dtype=torch.long), {}, "floating-point"),
        (torch.zeros(3, 3), {"ptr": torch.tensor([0, 2])}, "ascending from 0 to N = 3"),
        (torch.zeros(3, 3), {"ptr": torch.tensor([0.0, 3.0])}, "integers"),
        (torch.zeros(3, 3), {"samples": 0}, "samples"),
    ],
)
def test_refusals(pos, options, match):
    with pytest.raises(ShapeError, match=match):
        pca_frames(pos, **options)
