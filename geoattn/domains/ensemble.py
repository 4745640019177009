"""Several trained copies of one model that answer together."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geoattn.errors import InputError


class Ensemble(nn.Module):
    """Mean prediction of models that differ by their seed alone; their spread is the uncertainty.

    ``forward(batch) = 1/K sum_k model_k(batch)``, in the units the members predict in (normalised targets; logits for
    classes). Cost: K times one member, in time; the members run one after the other. It has the symmetries that its
    members have.

    Args:
        members: one or more models of the same class and, where they have a ``config``, of the same config.

    Example:
        >>> pair = Ensemble([nn.Linear(3, 1), nn.Linear(3, 1)])
        >>> pair(torch.zeros(5, 3)).shape, pair.members(torch.zeros(5, 3)).shape
        (torch.Size([5, 1]), torch.Size([2, 5, 1]))
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise InputError("members: an ensemble needs at least one model, got none.")
        for k, member in enumerate(members):
            if type(member) is not type(members[0]) or _config(member) != _config(members[0]):
                raise InputError(
                    f"members[{k}] is a {type(member).__name__} with config {_config(member)}, members[0] a "
                    f"{type(members[0]).__name__} with config {_config(members[0])}. "
                    "The members of an ensemble differ by their weights alone."
                )
        self.models = nn.ModuleList(members)

    @property
    def config(self) -> dict[str, Any] | None:
        """Constructor arguments that all members share."""
        return _config(self.models[0])

    @property
    def graph(self) -> str | None:
        """The kind of graph the members read: ``"2d"`` or ``"3d"``."""
        return getattr(self.models[0], "graph", None)

    def __len__(self) -> int:
        return len(self.models)

    def members(self, batch: Any) -> Tensor:
        """The prediction of each member, ``[K, B, T]``."""
        return torch.stack([model(batch) for model in self.models])

    def forward(self, batch: Any) -> Tensor:
        """The mean prediction of the members, ``[B, T]``."""
        return self.members(batch).mean(0)


def _config(model: nn.Module) -> dict[str, Any] | None:
    return getattr(model, "config", None)
