import pytest
import torch
from torch import nn

from geoattn.hub import Card, registry


class Toy(nn.Module):
    """A small model with what makes saving hard: tied weights, buffers of other dtypes, an unsaved buffer, tuples."""

    graph = "2d"

    def __init__(self, channels: int, depth: int = 1, bias: bool = True, tied: bool = False) -> None:
        super().__init__()
        self.config = {"channels": channels, "depth": depth, "bias": bias, "tied": tied}
        self.layers = nn.ModuleList(nn.Linear(channels, channels, bias=bias) for _ in range(depth))
        if tied:
            for layer in self.layers:
                layer.weight = self.layers[0].weight
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("mask", torch.ones(channels, dtype=torch.bool))
        self.register_buffer("none", torch.zeros(0, channels))
        self.register_buffer("rebuilt", torch.ones(1, channels).expand(3, channels), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return (x * self.rebuilt[0]).sum(-1, keepdim=True)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(registry.MODEL_CLASSES, "molecules/toy", f"{Toy.__module__}:{Toy.__qualname__}")
    return Toy


@pytest.fixture
def extras():
    """What save_pretrained asks for beside the folder and the model."""
    return {
        "task": "molecules",
        "preprocess": {"targets": ["E"], "cutoff": 5.0},
        "metrics": {
            "test": {
                "rmse": {"value": 0.5, "ci95": [0.4, 0.6], "n": 113},
                "r2": {"value": float("nan"), "ci95": None, "n": 113},
            },
            "baselines": {"test": {"mean": {"rmse": {"value": 1.25, "ci95": [1.0, 1.5], "n": 113}}}},
        },
        "split": {"name": "random", "train": [0, 1, 2], "valid": [3], "test": [4, 5]},
        "card": Card(
            title="Energies of toys",
            summary="Energy of small toys.",
            targets={"E": "energy, eV"},
            data="Toys 1.0",
            data_licence="CC-BY-4.0",
            split="random 60/10/30, seed 0",
            overlap={"identical molecules": 0, "shared scaffolds": 12},
            symmetry="rotations, reflections and translations change nothing",
            equivariance_error={"float32": 3.1e-7, "float64": 5e-16},
            command="geoattn molecules fit --data.file toys.xyz",
            seeds=[0],
            limits=["Only toys | no tools."],
            input="toys.xyz",
        ),
    }
