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

    def members(self, batch: Any) -> Any:
        """The prediction of each member, ``[K, B, T]``; a tuple of such where the members return named tuples."""
        return _stacked([model(batch) for model in self.models])

    def forward(self, batch: Any) -> Any:
        """The mean prediction of the members, ``[B, T]``; a tuple of such where the members return named tuples."""
        return _mean(self.members(batch))


def _stacked(outputs: Sequence[Any]) -> Any:
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.stack(list(outputs))
    return None if first is None else type(first)(*(_stacked(parts) for parts in zip(*outputs, strict=True)))


def _mean(stacked: Any) -> Any:
    if isinstance(stacked, Tensor):
        return stacked.mean(0)
    return None if stacked is None else type(stacked)(*map(_mean, stacked))


def _config(model: nn.Module) -> dict[str, Any] | None:
    return getattr(model, "config", None)
