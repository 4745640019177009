"""A plain graph network alone, with augmentation and inside `FrameAveraging`, on five charged particles.

    python benchmarks/frame_averaging.py --data nbody_charged5_small.npz

Positions after one unit of time from positions, velocities and charges (the EGNN paper's task: 3,000 training, 2,000
validation, 2,000 test systems; the epoch is chosen on validation; mean squared error over coordinates). The network has
4 layers of width 60, as the published FA-GNN, sees coordinates as features and knows nothing of rotations. Adam,
learning rate 1e-3 falling to 0 along a cosine, batches of 100.

Averaging over 4 frames calls the network 4 times on each system in an epoch. So the others run for E epochs, as many as
it does, and for 4 E, as many calls. "turned" is the test set with every system in a new random orientation. Floors:
where a particle would be at constant velocity, and the same with the time fitted on training data.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
import torch
from _harness import table
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from geoattn.layers import FrameAveraging

Set = dict[str, Tensor]
LAYERS, WIDTH, BATCH, FRAMES, VALIDATE = 4, 60, 100, 4, 5


class PlainGNN(nn.Module):
    """Message passing among all pairs; positions and velocities are features like any other."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(7, WIDTH)
        self.at_target = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))
        self.at_source = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS))
        self.at_edge = nn.ModuleList(nn.Linear(2, WIDTH, bias=False) for _ in range(LAYERS))
        self.message = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU()) for _ in range(LAYERS)
        )
        self.update = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH)) for _ in range(LAYERS)
        )
        self.readout = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 3))

    def forward(self, pos: Tensor, vel: Tensor, charge: Tensor) -> Tensor:
        h = self.embedding(torch.cat([pos, vel, charge], dim=-1))
        square = (pos[:, :, None] - pos[:, None]).square().sum(-1)
        edges = torch.stack([square, charge * charge.mT], dim=-1)
        other = 1 - torch.eye(pos.shape[1], dtype=pos.dtype)[..., None]
        for number in range(LAYERS):
            ends = self.at_target[number](h)[:, :, None] + self.at_source[number](h)[:, None]
            message = self.message[number](ends + self.at_edge[number](edges)) * other
            h = h + self.update[number](torch.cat([h, message.sum(2)], dim=-1))
        return pos + self.readout(h)


def read(path: Path) -> dict[str, Set]:
    """Train, valid and test: ``loc0, vel0, loc1 [n, 5, 3]``, ``charge [n, 5, 1]``."""
    with np.load(path) as arrays:
        parts = {
            part: {name: torch.tensor(arrays[f"{part}_{name}"]).float() for name in ("loc0", "vel0", "loc1", "charge")}
            for part in ("train", "valid", "test")
        }
    for values in parts.values():
        values["charge"] = values["charge"].reshape(*values["loc0"].shape[:2], 1)
    return parts


def turned(data: Set, seed: int) -> Set:
    """Every system in its own random orientation."""
    matrix = Rotation.random(len(data["loc0"]), rng=np.random.default_rng(seed)).as_matrix()
    matrix = torch.tensor(matrix, dtype=data["loc0"].dtype)
    return {name: value if name == "charge" else value @ matrix.mT for name, value in data.items()}


def predict(net: nn.Module, data: Set) -> Tensor:
    net.eval()
    with torch.no_grad():
        chunks = zip(*(data[name].split(500) for name in ("loc0", "vel0", "charge")), strict=True)
        return torch.cat([net(*chunk) for chunk in chunks])


def mse(net: nn.Module, data: Set) -> float:
    return (predict(net, data) - data["loc1"]).square().mean().item()


def train(net: nn.Module, parts: dict[str, Set], epochs: int, seed: int, augment: bool) -> None:
    """Leaves the weights of the best validation error in ``net``."""
    torch.manual_seed(1000 + seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    steps = -(-len(parts["train"]["loc0"]) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    best, kept = float("inf"), {name: value.clone() for name, value in net.state_dict().items()}
    for epoch in range(epochs):
        data = turned(parts["train"], seed * 100_000 + epoch) if augment else parts["train"]
        net.train()
        for rows in torch.randperm(len(data["loc0"])).split(BATCH):
            predicted = net(data["loc0"][rows], data["vel0"][rows], data["charge"][rows])
            loss = (predicted - data["loc1"][rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % VALIDATE == VALIDATE - 1 or epoch == epochs - 1:
            error = mse(net, parts["valid"])
            if error < best:
                best, kept = error, {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(kept)


def equivariance_error(net: nn.Module, data: Set) -> float:
    """Largest relative error over test systems, in float64, when each is turned and moved."""
    net = net.double()
    data = {name: value.double() for name, value in data.items()}
    matrix = torch.tensor(Rotation.random(rng=np.random.default_rng(5)).as_matrix())
    shift = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    here = predict(net, data) @ matrix.T + shift
    moved = {"loc0": data["loc0"] @ matrix.T + shift, "vel0": data["vel0"] @ matrix.T, "charge": data["charge"]}
    error = (predict(net, moved) - here).flatten(1).norm(dim=1) / here.flatten(1).norm(dim=1)
    net.float()
    return error.max().item()


def floors(parts: dict[str, Set]) -> list[dict[str, object]]:
    train_set, test_set = parts["train"], parts["test"]
    step = train_set["loc1"] - train_set["loc0"]
    fitted = ((step * train_set["vel0"]).sum() / train_set["vel0"].square().sum()).item()
    rows: list[dict[str, object]] = []
    for name, duration in (("constant velocity", 1.0), (f"velocity x {fitted:.3f}, fitted", fitted)):
        error = (test_set["loc0"] + duration * test_set["vel0"] - test_set["loc1"]).square().mean().item()
        rows.append(row(name, "-", "-", "-", error, error, "-", "-"))
    return rows


def row(*values: object) -> dict[str, object]:
    keys = ("contender", "seed", "epochs", "calls", "test MSE", "turned", "equivariance error", "CPU s")
    return dict(zip(keys, values, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=40, help="E")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-frame-averaging.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts = read(arguments.data)
    new = turned(parts["test"], seed=77)
    rows = floors(parts)
    few, many = arguments.epochs, FRAMES * arguments.epochs
    contenders = [
        # name, wrapped, one frame at a time, augmented, epochs, calls of the network per system and epoch
        ("plain", False, False, False, few, 1),
        ("plain", False, False, False, many, 1),
        ("plain, augmented", False, False, True, few, 1),
        ("plain, augmented", False, False, True, many, 1),
        ("frames", True, False, False, few, FRAMES),
        ("frames, one at a time", True, True, False, many, 1),
    ]
    for seed, (name, wrap, stochastic, augment, epochs, calls) in itertools.product(arguments.seeds, contenders):
        torch.manual_seed(seed)
        net: nn.Module = PlainGNN()
        if wrap:
            inputs = ("vector", "invariant")
            net = FrameAveraging(net, "SO3", inputs=inputs, out="position", stochastic=stochastic)
        begin = time.process_time()
        train(net, parts, epochs, seed, augment)
        seconds = time.process_time() - begin
        measured = (mse(net, parts["test"]), mse(net, new), f"{equivariance_error(net, parts['test']):.0e}")
        rows.append(row(name, seed, epochs, epochs * calls, *measured, round(seconds)))
        print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
