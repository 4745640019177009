"""The plain point transformer: what it ignores, what it learns, how little memory its edges take."""

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.layers import FrameAveraging
from geoattn.models import PointTransformer

F64 = torch.float64


def small(out=3, **options):
    torch.manual_seed(0)
    return PointTransformer(out, channels=(8, 16, 32), points=(12, 4), neighbors=5, num_groups=4, **options).double()


@pytest.mark.parametrize("per_point", [False, True])
def test_the_order_of_points_and_the_rest_of_the_batch_change_nothing(per_point):
    network = small(in_channels=2, per_point=per_point)
    pos, x = torch.randn(3, 30, 3, dtype=F64), torch.randn(3, 30, 2, dtype=F64)
    order = torch.randperm(30)
    result = network(pos, x)
    assert result.shape == ((3, 30, 3) if per_point else (3, 3))
    assert result.std(0).min() > 1e-3
    shuffled = network(pos[:, order], x[:, order])
    torch.testing.assert_close(shuffled, result[:, order] if per_point else result)
    torch.testing.assert_close(network(pos[1:2], x[1:2])[0], result[1])


@pytest.mark.parametrize("per_point", [False, True])
def test_padding_is_not_seen(per_point):
    network = small(per_point=per_point)
    pos, counts = torch.randn(4, 20, 3, dtype=F64), [20, 7, 1, 3]
    mask = torch.arange(20) < torch.tensor(counts)[:, None]
    result = network(pos.masked_fill(~mask[..., None], float("nan")), mask=mask)
    for number, count in enumerate(counts):
        alone = network(pos[number, None, :count])[0]
        torch.testing.assert_close(result[number, :count] if per_point else result[number], alone)
    if per_point:
        assert result[~mask].abs().max() == 0


def test_a_cloud_without_points_and_equal_points_are_finite():
    network = small()
    result = network(torch.zeros(2, 6, 3, dtype=F64), mask=torch.tensor([[True] * 6, [False] * 6]))
    assert result.isfinite().all()


def test_turning_changes_the_logits_and_frames_mend_it():
    network = small().eval()
    pos = torch.randn(2, 30, 3, dtype=F64)
    turned = pos[..., [1, 2, 0]]
    assert (network(pos) - network(turned)).abs().max() > 1e-3
    wrapped = FrameAveraging(network, "SO3")
    torch.testing.assert_close(wrapped(pos), wrapped(turned), atol=1e-10, rtol=0)


def test_gradients():
    pos, x = torch.randn(1, 9, 3, dtype=F64), torch.randn(1, 9, 2, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(small(1), pos.clone().requires_grad_(), atol=1e-6)
    network = small(1, in_channels=2, per_point=True)
    assert torch.autograd.gradcheck(lambda features: network(pos, features), x, atol=1e-6)
    network(pos, x).square().sum().backward()
    unused = [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert not unused


@pytest.mark.parametrize("per_point", [False, True])
def test_it_learns_four_clouds_by_heart(per_point):
    torch.manual_seed(0)
    network = PointTransformer(2, channels=(8, 16, 32), points=(12, 4), neighbors=5, num_groups=4, per_point=per_point)
    pos = torch.randn(4, 24, 3)
    label = torch.randint(2, (4, 24) if per_point else (4,))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(network(pos).movedim(-1, 1), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.25


def test_saves_and_loads(tmp_path):
    torch.manual_seed(0)
    one, two = small(), small()
    for parameter in two.parameters():
        torch.nn.init.normal_(parameter)
    torch.save(one.state_dict(), tmp_path / "w.pt")
    two.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True))
    pos = torch.randn(2, 30, 3, dtype=F64)
    assert torch.equal(one(pos), two(pos))


def test_refusals():
    with pytest.raises(ShapeError, match="one more of channels"):
        PointTransformer(3, channels=(8, 16), points=(4, 2))
    network = small(in_channels=3)
    pos = torch.zeros(2, 5, 3, dtype=F64)
    with pytest.raises(ShapeError, match="in_channels = 3"):
        network(pos)
    with pytest.raises(ShapeError, match=r"\[B, N, 3\]"):
        network(pos[0], pos)
    with pytest.raises(ShapeError, match="mask"):
        network(pos, pos, mask=torch.ones(2, 4, dtype=torch.bool))
