"""O'Neil's screen as tables that geoattn reads, with the folds of the DeepDDS set.

    python benchmarks/synergy_to_csv.py FOLDER_OF_THE_TABLES .

The DeepDDS set is the part of O'Neil's screen with 36 drugs and 31 cell lines, of which class 1 are Loewe scores above
10 and class 0 scores below 0. ``deepdds.csv`` holds the scores of all its combinations, those between the classes too:
``fold_random`` and ``fold_comb`` are the published folds (-1 where the published set lacks the row: never test;
the set holds 185 rows twice, 150 of them in two random folds: all repeats get the fold of the first),
``drug_K`` is "test" for every pair with a drug of block K, and "valid" for one in twenty of the other pairs: cutting
whole drugs out for validation would cost a tenth of the few that there are. ``oneil.csv`` is the whole screen with its
five folds.
"""

import re
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

KEY = ["one", "other", "cell"]


def main(source: str, target: str) -> None:
    """Read the tables in the folder ``source`` and write deepdds.csv, oneil.csv and tables of drugs to ``target``."""
    folder, out = Path(source), Path(target)
    scores = pd.read_csv(folder / "oneil_scores.csv.gz").rename(columns={"loewe": "score"})
    drugs = pd.read_csv(folder / "oneil_drugs.csv")[["drug", "smiles_isomeric"]]
    drugs = drugs.rename(columns={"drug": "name", "smiles_isomeric": "smiles"})
    deepdds = _with_folds(scores, folder)
    for name, table in (("oneil", scores), ("deepdds", deepdds), ("oneil_drugs", drugs)):
        table.to_csv(out / f"{name}.csv", index=False)
        print(f"{len(table)} rows written to {out / name}.csv")


def _with_folds(scores: pd.DataFrame, folder: Path) -> pd.DataFrame:
    labels = _keyed(pd.read_csv(folder / "deepdds_labels.csv.gz"), "drug1", "drug2", "cell")
    block = pd.read_csv(folder / "deepdds_drugs.csv").set_index("drug")["fold_drug"]
    cells = {_plain(cell): (cell, tissue) for cell, tissue in zip(labels["cell_name"], labels["tissue"], strict=True)}
    table = _keyed(scores.drop(columns="fold"), "drug_a", "drug_b", "cell_line")
    table = table[table["drug_a"].isin(block.index) & table["drug_b"].isin(block.index) & table["cell"].isin(cells)]
    table["cell_line"], table["tissue"] = zip(*table["cell"].map(cells), strict=True)
    first = labels.drop_duplicates(KEY).set_index(KEY)["fold_random"]
    of_pair = labels.drop_duplicates(KEY[:2]).set_index(KEY[:2])["fold_comb"]
    for name, keys, folds in (("fold_random", KEY, first), ("fold_comb", KEY[:2], of_pair)):
        table[name] = folds.reindex(pd.MultiIndex.from_frame(table[keys])).fillna(-1).astype(int).to_numpy()
    for k in sorted(block.unique()):
        new = (table["drug_a"].map(block) == k) | (table["drug_b"].map(block) == k)
        part = np.where(table["one"].add(table["other"]).map(_drawn), "valid", "train")
        table[f"drug_{k}"] = np.where(new, "test", part)
    return table.drop(columns=KEY)


def _keyed(table: pd.DataFrame, a: str, b: str, cell: str) -> pd.DataFrame:
    """With the two drugs in the order of the alphabet, and the cell line without punctuation."""
    pairs = [sorted(pair) for pair in zip(table[a], table[b], strict=True)]
    names = {"one": [pair[0] for pair in pairs], "other": [pair[1] for pair in pairs]}
    return table.assign(**names, cell_name=table[cell], cell=table[cell].map(_plain)).drop(
        columns=[] if cell == "cell" else "cell_name"
    )


def _drawn(pair: str) -> bool:
    """One in twenty pairs, whatever the table and its order."""
    return zlib.crc32(pair.encode()) % 20 == 0


def _plain(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())


if __name__ == "__main__":
    main(*sys.argv[1:])
