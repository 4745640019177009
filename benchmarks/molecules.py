"""A recipe over several splits: mean and standard deviation of the test metrics, beside the baselines.

    python benchmarks/molecules.py molecules-esol ../shared/data/molecules/esol.csv \\
        column:mat_split0 column:mat_split1 column:mat_split2 column:mat_split3 column:mat_split4 column:mat_split5
    python benchmarks/qm7_to_xyz.py ../shared/data/molecules/qm7_dev.npz qm7.xyz
    python benchmarks/molecules.py molecules-qm7 qm7.xyz column:fold=0 column:fold=1 ... --metric mae

One run folder per split below ``--out``; a finished one is not trained again, an interrupted one goes on.
"""

import argparse
import json
import statistics
from pathlib import Path

from geoattn.tasks import molecules


def metrics_of(recipe: str, data: Path, split: str, out: Path) -> dict:
    """The metrics of one split, trained if they are not there yet."""
    finished = out / "metrics.json"
    if not finished.exists():
        molecules.fit(data, recipe=recipe, out=out, resume=out.exists(), data={"split": split})
    return json.loads(finished.read_text(encoding="utf-8"))


def summary(values: list[float]) -> str:
    """Mean and standard deviation over the splits (of the population: all splits of the protocol are here)."""
    return f"{statistics.mean(values):.3f} +- {statistics.pstdev(values):.3f}   " + " ".join(f"{v:.3f}" for v in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("data", type=Path)
    parser.add_argument("splits", nargs="+")
    parser.add_argument("--metric", default="rmse")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    runs = []
    for split in arguments.splits:
        name = f"{arguments.recipe}-{split}".replace(":", "-").replace("=", "-")
        runs.append(metrics_of(arguments.recipe, arguments.data, split, arguments.out / name))
    print(f"test {arguments.metric} over {len(runs)} splits: mean +- sd, then each")
    for baseline in runs[0]["baselines"]["test"]:
        found = [run["baselines"]["test"][baseline][arguments.metric]["value"] for run in runs]
        print(f"{baseline:20s} {summary(found)}")
    print(f"{arguments.recipe:20s} {summary([run['test'][arguments.metric]['value'] for run in runs])}")


if __name__ == "__main__":
    main()
