"""Join the pairs, receptors and epitopes of the TITAN benchmark to one CSV per split.

Ids are left out on purpose: they are numbered by what a receptor binds.

    python benchmarks/tcr_to_csv.py FOLDER_OF_THE_TABLES .
"""

import sys
from pathlib import Path

import pandas as pd

COLUMNS = ["cdr3", "full", "epitope", "smiles", "label", "fold", "source"]


def main(source: str, target: str) -> None:
    """Read the tables in the folder ``source`` and write ``tcr_split.csv`` and ``strict_split.csv`` to ``target``."""
    receptors = pd.read_csv(Path(source) / "tcr_sequences.csv.gz").rename(columns={"full_sequence": "full"})
    epitopes = pd.read_csv(Path(source) / "epitopes.csv").rename(columns={"sequence": "epitope"})
    for name in ("tcr_split", "strict_split"):
        pairs = pd.read_csv(Path(source) / f"pairs_{name}.csv.gz")
        joined = pairs.merge(receptors, on="tcr_id", validate="m:1").merge(epitopes, on="epitope_id", validate="m:1")
        joined[COLUMNS].to_csv(Path(target) / f"{name}.csv", index=False)
        print(f"{len(joined)} pairs written to {Path(target) / name}.csv")


if __name__ == "__main__":
    main(*sys.argv[1:])
