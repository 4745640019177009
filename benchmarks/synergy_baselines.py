"""Baselines of drug synergy over the published folds of the DeepDDS set and of O'Neil's scores; no network is trained.

    python benchmarks/synergy_baselines.py ../shared/data/synergy [--sets deepdds oneil] [--splits random drug]

The folder holds the tables of its README. DeepDDS set, classification of 12,415 rows as they are (repeats included, as
in the published numbers): ``random`` (fold_random), ``combination`` (fold_comb), ``drug`` (every row with a drug of the
block fold_drug is test) and ``tissue`` (each in turn is test). O'Neil scores, regression of 23,052 Loewe scores:
``combination`` (fold). Everything that is not test is training. Printed are mean and standard deviation over folds.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from geoattn.datasets.synergy_drugs import DrugTable
from geoattn.datasets.synergy_expression import read_expression
from geoattn.domains.metrics import evaluate
from geoattn.domains.synergy.baselines import Task, make_baselines
from geoattn.domains.synergy.expression import Scale, apply_expression, fit_expression
from geoattn.domains.synergy.records import CellLine, Combination

SPLITS = ("random", "combination", "drug", "tissue")
METRICS: dict[Task, tuple[str, ...]] = {
    "classification": ("roc_auc", "pr_auc", "accuracy"),
    "regression": ("rmse", "pearson", "mae"),
}
SYNERGISTIC = 30.0
"""Loewe score from which a combination of O'Neil's screen counts as synergistic."""


def deepdds(folder: Path) -> tuple[list[Combination], dict[str, list[np.ndarray]]]:
    """The rows, and per split the test rows of each fold as a mask."""
    table = pd.read_csv(folder / "deepdds_labels.csv.gz")
    block = pd.read_csv(folder / "deepdds_drugs.csv").set_index("drug")["fold_drug"]
    drugs = DrugTable(folder / "deepdds_drugs.csv")
    samples = [
        Combination(
            str(row.row),
            drugs.find("drug1", row.drug1),
            drugs.find("drug2", row.drug2),
            CellLine(row.cell, row.tissue),
            float(row.label),
        )
        for row in table.itertuples()
    ]
    folds = range(5)
    either = [((table["drug1"].map(block) == k) | (table["drug2"].map(block) == k)).to_numpy() for k in folds]
    return samples, {
        "random": [(table["fold_random"] == k).to_numpy() for k in folds],
        "combination": [(table["fold_comb"] == k).to_numpy() for k in folds],
        "drug": either,
        "tissue": [(table["tissue"] == name).to_numpy() for name in sorted(table["tissue"].unique())],
    }


def oneil(folder: Path) -> tuple[list[Combination], dict[str, list[np.ndarray]]]:
    """The rows, and the test rows of each fold as a mask."""
    table = pd.read_csv(folder / "oneil_scores.csv.gz")
    drugs = DrugTable(folder / "oneil_drugs.csv", smiles_column="smiles_isomeric")
    samples = [
        Combination(
            str(row.Index),
            drugs.find("drug_a", row.drug_a),
            drugs.find("drug_b", row.drug_b),
            CellLine(row.cell_line),
            row.loewe,
        )
        for row in table.itertuples()
    ]
    return samples, {"combination": [(table["fold"] == k).to_numpy() for k in range(5)]}


def scores(
    samples: list[Combination], folds: list[np.ndarray], expression: Path, scale: Scale, task: Task, chosen: list[str]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Name of a baseline and its metrics on each fold."""
    table = read_expression(expression)
    for fold, mask in enumerate(folds):
        train = [samples[row] for row in np.flatnonzero(~mask)]
        test = [samples[row] for row in np.flatnonzero(mask)]
        preprocess = fit_expression(table, [sample.cell.name for sample in train], scale)
        cells = dict(zip(table.cells, apply_expression(preprocess, table)[0], strict=True))
        y = np.array([[sample.score] for sample in test], dtype=np.float64)
        for baseline in make_baselines(train, cells, task, seed=fold):
            if chosen and baseline.name not in chosen:
                continue
            started = time.perf_counter()
            prediction = baseline.fit(train).predict(test)[:, None]
            found = {name: entry["value"] for name, entry in evaluate(y, prediction, task, num_bootstrap=0).items()}
            if task == "regression":
                classes = evaluate((y >= SYNERGISTIC).astype(float), prediction, "classification", num_bootstrap=0)
                found |= {name: classes[name]["value"] for name in ("roc_auc", "pr_auc")}
            yield baseline.name, {**found, "seconds": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", choices=("deepdds", "oneil"), default=["deepdds", "oneil"])
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--baselines", nargs="+", default=[], help="names, e.g. one_hot_forest; all if left out")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    for name in arguments.sets:
        samples, splits = (deepdds if name == "deepdds" else oneil)(folder)
        task: Task = "classification" if name == "deepdds" else "regression"
        file, scale = ("deepdds_cells_tpm954.csv.gz", "tpm") if name == "deepdds" else ("oneil_cells.npz", "zscore")
        columns = (*METRICS[task], *(("roc_auc", "pr_auc") if task == "regression" else ()))
        for split in (split for split in arguments.splits if split in splits):
            print(f"\n{name}, {split}: {len(splits[split])} folds", flush=True)
            print(f"{'baseline':24s}" + "".join(f"{column:>18s}" for column in columns) + f"{'seconds':>10s}")
            found: dict[str, list[dict[str, float]]] = {}
            for baseline, metrics in scores(samples, splits[split], folder / file, scale, task, arguments.baselines):
                found.setdefault(baseline, []).append(metrics)
            for baseline, folds in found.items():
                table = pd.DataFrame(folds).astype(float)
                shown = "".join(f"{table[c].mean():>10.3f} ± {table[c].std(ddof=0):.3f}" for c in columns)
                print(f"{baseline:24s}{shown}{table['seconds'].mean():>10.1f}", flush=True)


if __name__ == "__main__":
    main()
