import pytest
import torch
from torch import nn

from geoattn.domains.ensemble import Ensemble
from geoattn.errors import InputError


class Member(nn.Module):
    graph = "2d"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.config = {"width": width}
        self.linear = nn.Linear(width, 2)

    def forward(self, batch):
        return self.linear(batch)


def test_the_prediction_is_the_mean_of_the_members_own():
    members = [Member(3) for _ in range(4)]
    ensemble, x = Ensemble(members), torch.randn(5, 3)
    each = torch.stack([member(x) for member in members])
    assert torch.equal(ensemble.members(x), each) and each.shape == (4, 5, 2)
    torch.testing.assert_close(ensemble(x), sum(each) / 4)
    assert len(ensemble) == 4 and ensemble.config == {"width": 3} and ensemble.graph == "2d"


def test_members_are_trained_and_switched_together():
    ensemble = Ensemble([Member(2), Member(2)])
    ensemble(torch.ones(1, 2)).sum().backward()
    assert all(parameter.grad is not None for parameter in ensemble.parameters())
    assert not ensemble.eval().models[1].training
    assert len(list(ensemble.parameters())) == 4


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "at least one model"),
        ([Member(2), Member(3)], r"members\[1\] is a Member with config \{'width': 3\}"),
        ([Member(2), nn.Linear(2, 2)], r"members\[1\] is a Linear"),
    ],
)
def test_members_that_do_not_belong_together_are_refused(members, message):
    with pytest.raises(InputError, match=message):
        Ensemble(members)
