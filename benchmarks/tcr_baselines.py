"""Baselines of receptor-epitope binding over the folds of TITAN's pairs, without training a network.

    python benchmarks/tcr_baselines.py ../shared/data/tcr [--folds 0 1] [--splits tcr strict]

The folder holds ``pairs_{tcr,strict}_split.csv.gz`` (epitope_id, tcr_id, label, fold), ``tcr_sequences.csv.gz``
(tcr_id, cdr3, full_sequence) and ``epitopes.csv`` (epitope_id, sequence). Each fold in turn is predicted from the
others; printed are mean and standard deviation over folds of the ROC AUC and PR AUC of all pairs of a fold, and of the
mean ROC AUC of its epitopes with at least five pairs of each class, which knowing the epitope alone does not raise.
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd

from geoattn.domains.tcr.baselines import EpitopePrior, LevenshteinKNN
from geoattn.domains.tcr.metrics import evaluate_pairs
from geoattn.domains.tcr.records import Epitope, Pair, Receptor

KNN = {"cdr3": (13, 25), "full": (7, 13, 25)}
METRICS = ("roc_auc", "pr_auc", "macro_roc_auc")


def read_pairs(folder: Path, split: str) -> dict[int, list[Pair]]:
    """The pairs of each fold."""
    table = pd.read_csv(folder / "tcr_sequences.csv.gz")
    receptors = {
        row.tcr_id: Receptor(row.cdr3, full=row.full_sequence, start=row.full_sequence.rindex(row.cdr3))
        for row in table.itertuples()
    }
    epitopes = {row.epitope_id: Epitope(row.sequence) for row in pd.read_csv(folder / "epitopes.csv").itertuples()}
    folds: dict[int, list[Pair]] = {}
    for row in pd.read_csv(folder / f"pairs_{split}_split.csv.gz").itertuples():
        pair = Pair(str(row.Index), receptors[row.tcr_id], epitopes[row.epitope_id], row.label)
        folds.setdefault(row.fold, []).append(pair)
    return folds


def predictions(train: list[Pair], test: list[Pair]) -> dict[str, tuple[np.ndarray, float]]:
    """Name -> (probabilities, seconds)."""
    started = time.perf_counter()
    found = {"prior": (EpitopePrior().fit(train).predict(test), time.perf_counter() - started)}
    for kind, ks in KNN.items():
        started = time.perf_counter()
        scores = LevenshteinKNN(kind=kind).fit(train).predict_each(test, ks)
        seconds = time.perf_counter() - started
        found |= {f"knn {kind} k={k}": (score, seconds) for k, score in zip(ks, scores, strict=True)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--folds", type=int, nargs="+")
    parser.add_argument("--splits", nargs="+", choices=("tcr", "strict"), default=["tcr", "strict"])
    arguments = parser.parse_args()
    for split in arguments.splits:
        folds = read_pairs(arguments.folder, split)
        tested = arguments.folds or sorted(folds)
        rows = []
        for fold in tested:
            test, train = folds[fold], [pair for other, pairs in folds.items() if other != fold for pair in pairs]
            label, epitope = [pair.label for pair in test], [pair.epitope.sequence for pair in test]
            for name, (score, seconds) in predictions(train, test).items():
                entries = evaluate_pairs(label, score, epitope, num_bootstrap=0)
                rows.append({"name": name, "s": seconds, **{metric: entries[metric]["value"] for metric in METRICS}})
        print(f"{split} split, {len(tested)} folds: mean +- sd; seconds of a fold (all k together)")
        for name, group in pd.DataFrame(rows).groupby("name", sort=False):
            cells = [f"{metric} {group[metric].mean():.3f} +- {group[metric].std(ddof=0):.3f}" for metric in METRICS]
            print(f"{name:16s} {'   '.join(cells)}   {group['s'].mean():6.1f} s", flush=True)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB, with interpreter and torch")


if __name__ == "__main__":
    main()
