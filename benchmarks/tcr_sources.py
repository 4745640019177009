"""How much of a score is knowing where a receptor comes from: macro ROC AUC with negatives of the same source alone.

    python benchmarks/tcr_sources.py tcr_split.csv runs/fold0/predictions.csv [runs/fold1/predictions.csv ...]

Epitopes of the TITAN benchmark come from VDJdb or from ImmuneCODE, whose receptors were sequenced and written in
different ways. A receptor's source is that of the epitopes it binds; a pair of different sources is a negative that
can be told without any binding. The first table counts all pairs of the test part, the second those of one source.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from geoattn.domains.tcr.baselines import LevenshteinKNN
from geoattn.domains.tcr.metrics import evaluate_pairs
from geoattn.domains.tcr.records import Epitope, Pair, Receptor

CHAIN = ["cdr3", "full"]
NEIGHBORS = 7  # the best on full chains


def records(table: pd.DataFrame) -> list[Pair]:
    """The rows as the baselines take them."""
    rows = table[[*CHAIN, "epitope", "label"]].itertuples(index=False)
    return [Pair("", Receptor(r.cdr3, full=r.full), Epitope(r.epitope), int(r.label)) for r in rows]


def nearest(pairs: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """K nearest neighbours on full chains, from all folds but that of the test part."""
    train = pairs[pairs["fold"] != int(test["fold"].iloc[0])]
    return LevenshteinKNN(NEIGHBORS, "full").fit(records(train)).predict(records(test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("predictions", type=Path, nargs="+")
    arguments = parser.parse_args()
    pairs = pd.read_csv(arguments.pairs)
    source_of_epitope = pairs.groupby("epitope")["source"].first()
    binders = pairs[pairs["label"] == 1].groupby(CHAIN)["source"].agg(lambda found: "/".join(sorted(set(found))))
    rows = []
    for file in arguments.predictions:
        table = pd.read_csv(file).query("split == 'test'").merge(binders.rename("source"), on=CHAIN, how="left")
        table["knn"] = nearest(pairs, table)
        of_epitope = table["epitope"].map(source_of_epitope)
        parts = {"all pairs": table, "one source": table[table["source"] == of_epitope]}
        parts |= {f"{name} alone": parts["one source"].query("source == @name") for name in ("vdjdb", "immunecode")}
        for name, part in parts.items():
            values = {}
            for by, column in (("", "probability"), ("knn ", "knn")):
                found = evaluate_pairs(part["label"], part[column], part["epitope"], num_bootstrap=0)
                values |= {by + metric: found[metric]["value"] for metric in ("roc_auc", "macro_roc_auc")}
            rows.append({"predictions": file.parent.name, "counted": name, "pairs": len(part), **values})
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.4f}"))


if __name__ == "__main__":
    main()
