"""Shallow-water forecasts: attention on the sphere against the same network that takes the map for a plane.

    python benchmarks/shallow_water_to_npz.py states.npz --trajectories 300
    python benchmarks/shallow_water_to_npz.py new.npz --trajectories 40 --seed 1
    python benchmarks/sphere_planar.py states.npz new.npz --out runs/sphere-planar [--epochs 20] [--seeds 0 1 2]

Both have the same parameters (their number is checked), data, order of batches and epochs, and go on from their own
states for 10 steps on trajectories that neither has seen. Finished runs in --out are kept; result.json and table.md are
written there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from geoattn.tasks import sphere

FORMS = {"spherical": False, "planar": True}
LEADS = (1, 5, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help=".npz to train on")
    parser.add_argument("new", help=".npz of other trajectories")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--history", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows, parameters = [], set()
    for seed in options.seeds:
        for form, planar in FORMS.items():
            folder = options.out / f"{form}-{seed}"
            parameters.add(train(folder, options, seed, planar))
            rows += [{"form": form, "seed": seed, **row} for row in rolled(folder, options.new)]
    assert len(parameters) == 1, f"the two have different numbers of parameters: {parameters}"
    table = pd.DataFrame(rows)
    result = summary(table)
    text = markdown(result, parameters.pop(), options)
    (options.out / "result.json").write_text(json.dumps({"runs": rows, "summary": result}, indent=1) + "\n")
    (options.out / "table.md").write_text(text)
    print(text)


def train(folder: Path, options: argparse.Namespace, seed: int, planar: bool) -> int:
    """Fit, or find, one run; the number of its parameters."""
    if not (folder / "report.html").is_file():
        sphere.fit(
            options.data,
            recipe="sphere-shallow-water",
            out=folder,
            resume=folder.is_dir(),
            seed=seed,
            data={"history": options.history},
            model={"planar": planar, "channels": [options.channels], "num_layers": options.layers},
            trainer={"max_epochs": options.epochs},
        )
    from geoattn.hub import from_pretrained

    return sum(one.numel() for one in from_pretrained(folder / "model").model.parameters())


def rolled(folder: Path, new: str) -> list[dict[str, Any]]:
    """Lead, errors of the model and of persistence on new trajectories."""
    if not (folder / "new" / "report.html").is_file():
        sphere.test(str(folder), new, out=str(folder / "new"), quiet=True)
    table = pd.read_csv(folder / "new" / "rollout.csv").set_index(["name", "lead"])
    return [
        {
            "lead": lead,
            "relative": float(table.loc[("this model", lead), "nrmse"] / table.loc[("persistence", lead), "nrmse"]),
            **{name: float(value) for name, value in table.loc[("this model", lead)].items() if name != "states"},
            **{f"persistence_{name}": float(value) for name, value in table.loc[("persistence", lead)].items()
               if name != "states"},
        }
        for lead in LEADS
    ]  # fmt: skip


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Form -> lead -> measure -> mean and standard deviation over seeds; and how often the sphere is better."""
    found: dict[str, Any] = {}
    names = [name for name in table.columns if name not in ("form", "seed", "lead")]
    for form, part in table.groupby("form"):
        found[str(form)] = {
            str(lead): {
                name: {
                    "mean": float(group[name].mean()),
                    "sd": float(np.std(group[name], ddof=1)) if len(group) > 1 else 0,
                }
                for name in names
            }
            for lead, group in part.groupby("lead")
        }
    wide = table.pivot(index=["seed", "lead"], columns="form", values="nrmse")
    better = (wide["spherical"] < wide["planar"]).groupby("lead").sum()
    found["seeds_where_spherical_is_better"] = {str(lead): int(count) for lead, count in better.items()}
    return found


def markdown(result: dict[str, Any], parameters: int, options: argparse.Namespace) -> str:
    first = next(iter(FORMS))
    measures = ["relative", "nrmse", *(name for name in result[first]["1"] if name.startswith("rmse_"))]
    heads = ["NRMSE over that of persistence", "NRMSE", *(name.replace("rmse_", "RMSE of ") for name in measures[2:])]
    lines = [f"{parameters:,} parameters, {options.epochs} epochs, seeds {options.seeds}, mean ± sd over seeds.", ""]
    lines += [f"| steps | | {' | '.join(heads)} |", "|" + " --- |" * (len(heads) + 2)]
    for lead in map(str, LEADS):
        for form in FORMS:
            cells = [
                f"{result[form][lead][name]['mean']:.4g} ± {result[form][lead][name]['sd']:.2g}" for name in measures
            ]
            lines.append(f"| {lead} | {form} | {' | '.join(cells)} |")
        still = [f"{result[first][lead][f'persistence_{name}']['mean']:.4g}" for name in measures[1:]]
        lines.append(f"| {lead} | persistence | 1 | {' | '.join(still)} |")
    wins = ", ".join(f"{count} at {lead}" for lead, count in result["seeds_where_spherical_is_better"].items())
    return "\n".join([*lines, "", f"Seeds where the sphere is better, by steps: {wins}.", ""])


if __name__ == "__main__":
    main()
