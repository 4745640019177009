"""Real fields as tasks, each beside its floor and baselines: CO2, temperature, geopotential, ocean basins.

    python benchmarks/sphere_to_npz.py FOLDER_OF_THE_ARRAYS fields
    python benchmarks/sphere_fields.py fields --out runs/sphere-fields [--tasks co2 t2m era basins]

Every task is a run of ``geoattn sphere fit`` with a small budget. Fields of many points are thinned to every second or
fourth row and column first (--thin), so that a run takes minutes on one core. Finished runs in --out are kept;
result.json and table.md are written there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geoattn._numbers import format_measure, metric_name
from geoattn.tasks import sphere

LEVELS = (200, 500, 850)
TASKS: dict[str, dict[str, Any]] = {
    "co2": {
        "what": "total column CO2 six hours later, from two states",
        "data": {"task": "forecast", "history": 2, "split": "time", "test_fraction": 0.25, "val_fraction": 0.1,
                 "batch_size": 2},
        "model": {"channels": [32], "num_layers": 2},
        "epochs": 40, "thin": 4, "metric": "rmse",
    },
    "t2m": {
        "what": "temperature at 2 m of month 2 from month 1, other members of the ensemble",
        "data": {"task": "regression", "inputs": ["month1"], "targets": ["month2"], "split": "random",
                 "test_fraction": 0.25, "val_fraction": 0.1, "batch_size": 2},
        "model": {"channels": [32], "num_layers": 2, "weight_decay": 0.1},
        "epochs": 40, "thin": 2, "metric": "rmse",
    },
    "era": {
        "what": "geopotential from wind in January, on blocks of the globe that were held out, 5 degrees apart",
        "data": {"task": "regression", "targets": [f"z@{level}" for level in LEVELS], "split": "region:0",
                 "test_fraction": 0.15, "val_fraction": 0.1, "gap_degrees": 5.0, "batch_size": 1},
        "model": {"channels": [32], "num_layers": 2, "weight_decay": 0.1, "learning_rate": 0.003},
        "epochs": 150, "thin": 2, "metric": "nrmse",
    },
    "basins": {
        "what": "ocean basins from topography, on blocks of the globe that were held out",
        "data": {"task": "segmentation", "targets": ["basin"], "split": "region:0", "test_fraction": 0.15,
                 "val_fraction": 0.1, "batch_size": 1},
        "model": {"channels": [16, 32, 48], "weight_decay": 0.1, "learning_rate": 0.003},
        "epochs": 100, "thin": 2, "metric": "area_miou",
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", type=Path, help="folder with co2.npz, t2m.npz, era.npz, basins.npz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, help="instead of those of each task")
    parser.add_argument("--thin", type=int, help="take every so-manieth row and column, instead of what each task says")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in options.tasks:
        for seed in options.seeds:
            found[f"{name}-{seed}"] = one(name, seed, options)
    (options.out / "result.json").write_text(json.dumps(found, indent=1) + "\n")
    text = markdown(found)
    (options.out / "table.md").write_text(text)
    print(text)


def one(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Fit, or find, one run; its metrics."""
    task, folder = TASKS[name], options.out / f"{name}-{seed}"
    if not (folder / "report.html").is_file():
        thin = options.thin or task["thin"]
        file = thinned(options.fields / f"{name}.npz", options.out / f"{name}-every-{thin}.npz", thin)
        sphere.fit(
            file,
            out=folder,
            resume=folder.is_dir(),
            seed=seed,
            data=task["data"],
            model=task["model"],
            trainer={"max_epochs": options.epochs or task["epochs"]},
        )
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def thinned(file: Path, target: Path, step: int) -> Path:
    """Every ``step``-th row and column, as a file."""
    if target.is_file():
        return target
    with np.load(file) as source:
        arrays = dict(source)
    shape = len(arrays["lat"]), len(arrays["lon"])
    made = {
        name: array[..., ::step, ::step] if array.ndim > 1 and array.shape[-2:] == shape else array
        for name, array in arrays.items()
    }
    np.savez(target, **made | {"lat": arrays["lat"][::step], "lon": arrays["lon"][::step]})  # type: ignore[arg-type]
    return target


def markdown(found: dict[str, Any]) -> str:
    """A table per run: the model, then its baselines."""
    lines = []
    for run, metrics in found.items():
        task = TASKS[run.rpartition("-")[0]]
        rows = {"this model": metrics["test"], **metrics["baselines"]["test"]}
        names = list(metrics["test"])
        lines += [f"{run}: {task['what']}", "", f"| | {' | '.join(map(metric_name, names))} |"]
        lines += ["|" + " --- |" * (len(names) + 1)]
        for name, row in rows.items():
            lines.append(f"| {name} | {' | '.join(format_measure(row.get(each)) for each in names)} |")
        values = {name: row[task["metric"]]["value"] for name, row in rows.items() if row.get(task["metric"])}
        lines += ["", f"{metric_name(task['metric'])}: " + ", ".join(f"{name} {value:.4g}" for name, value in
                  values.items() if value is not None), ""]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    main()
