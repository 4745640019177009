"""How cameras enter a network of views: GTA, GTA without its value transform, embedded rays, rays with RoPE.

    python benchmarks/multiview_scenes.py scenes32.npz --scenes 1500
    python benchmarks/multiview_poses.py scenes32.npz poses --epochs 60

All are trained alike, on the same scenes in the same order, and asked for the same views of the same test scenes. Poses
are relative to the first given view ("first"), or as they stand in the file, where each scene has a world frame of its
own ("file"). A run is a run folder of ``geoattn multiview fit`` in OUT; finished ones are not done again, begun ones go
on, so the command may be stopped, or started for one encoding at a time with ``--poses``. Writes OUT/results.json.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import geoattn.models.multiview as models
from geoattn.tasks import multiview

POSES = {"gta": "gta", "gta_without_values": "gta", "absolute": "absolute", "rope": "rope"}
METRICS = ("psnr", "ssim")


@contextmanager
def values_untouched(wanted: bool) -> Iterator[None]:
    """Within, attention of new networks leaves values and outputs alone."""
    usual = models.GTA
    try:
        if wanted:
            models.GTA = lambda *sizes, **options: usual(*sizes, **options | {"v_transform": False})
        yield
    finally:
        models.GTA = usual


def train(options: argparse.Namespace, name: str, frame: str, seed: int) -> dict[str, Any]:
    """Metrics of one run, and its number of parameters."""
    folder = options.out / f"{name}-{frame}-{seed}"
    with values_untouched(name == "gta_without_values"):
        run = multiview.fit(
            options.file,
            out=folder,
            resume=(folder / "config.yaml").is_file(),
            quiet=not options.show,
            seed=seed,
            data={"unit": "data", "frame": frame, "num_inputs": 2},
            model={
                "pose": POSES[name],
                "channels": options.channels,
                "num_heads": options.heads,
                "num_layers": options.layers,
                "learning_rate": options.learning_rate,
            },
            trainer={"max_epochs": options.epochs},
        )
    found = {metric: run.metrics["test"][metric]["value"] for metric in METRICS}
    baselines = {
        base: {metric: row[metric]["value"] for metric in METRICS}
        for base, row in run.metrics["baselines"]["test"].items()
    }
    size = sum(parameter.numel() for parameter in run.model.parameters())
    return {"pose": name, "frame": frame, "seed": seed, "parameters": size, **found, "baselines": baselines}


def table(runs: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over seeds."""
    lines = [f"{'poses':<20}{'frame':<8}{'seeds':<8}{'parameters':>12}{'PSNR':>18}{'SSIM':>20}"]
    for name, frame in dict.fromkeys((run["pose"], run["frame"]) for run in runs):
        rows = [run for run in runs if (run["pose"], run["frame"]) == (name, frame)]
        cells = [f"{np.mean(v):.3f} +- {np.std(v):.3f}" for v in ([row[m] for row in rows] for m in METRICS)]
        lines.append(f"{name:<20}{frame:<8}{len(rows):<8}{rows[0]['parameters']:>12,}{cells[0]:>18}{cells[1]:>20}")
    for base, row in (runs[0]["baselines"] if runs else {}).items():
        lines.append(f"{base:<48}{row['psnr']:>18.3f}{row['ssim']:>20.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--poses", nargs="+", choices=POSES, default=list(POSES))
    parser.add_argument("--frames", nargs="+", choices=("first", "file"), default=["first", "file"])
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--show", action="store_true", help="show how each training goes")
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    for frame in options.frames:
        for seed in options.seeds:
            for name in options.poses:
                found = train(options, name, frame, seed)
                (options.out / f"{name}-{frame}-{seed}.json").write_text(json.dumps(found, indent=1) + "\n")
                print(f"{name}, {frame}, seed {seed}: PSNR {found['psnr']:.3f}, SSIM {found['ssim']:.4f}", flush=True)
    # of all that is in the folder, also by other calls, so that encodings may be trained side by side
    runs = [json.loads(path.read_text()) for path in sorted(options.out.glob("*-*-*.json"))]
    (options.out / "results.json").write_text(json.dumps(runs, indent=1) + "\n")
    print(table(runs))


if __name__ == "__main__":
    main()
