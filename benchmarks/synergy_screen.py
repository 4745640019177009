"""Screens of all pairs of a list of drugs: pairs a second and peak memory, by length of the list and members.

    python benchmarks/synergy_screen.py [--drugs 200 2000] [--cells 5] [--smiles FILE.csv] [--ensemble 1] [--positions]

Drugs are distinct molecules put together from rings and groups, or the column ``smiles`` of a table. The network has
random weights, which changes no time; it has the widths of the defaults. The wall time of the whole verb is told:
reading and checking the tables, features of drugs, encoding, all pairs, ranking, writing.
"""

import argparse
import itertools
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _harness import peak_memory, print_and_save
from rdkit import Chem

from geoattn.datasets.rejections import Rejections
from geoattn.datasets.synergy_drugs import DrugTable
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.synergy.egat_model import SynergyEGAT
from geoattn.domains.synergy.expression import Expression, fit_expression
from geoattn.domains.synergy.featurize import make_preprocess, sizes
from geoattn.hub import Card, save_pretrained
from geoattn.tasks._synergy_screen import screen_files

RINGS = (
    "c%11cc({})ccc%11{}", "c%11nc({})ccc%11{}", "C%11CC({})CCC%11{}", "c%11cc%12c(cc%11{})CCN%12{}",
    "c%11cc({})sc%11{}", "O=C%11C({})CCN%11{}", "c%11c({})oc({})n%11", "c%11c({})[nH]c({})n%11",
)  # fmt: skip
GROUPS = (
    "C", "CC", "CCC", "C(C)C", "OC", "OCC", "N(C)C", "C(=O)O", "C(=O)N", "C(=O)OC", "C#N", "F", "Cl", "C(F)(F)F",
    "S(=O)(=O)C", "S(=O)(=O)N", "c1ccccc1", "c1ccncc1", "N1CCOCC1",
)  # fmt: skip
NUM_GENES = 954


def molecules(count: int) -> list[str]:
    """``count`` distinct SMILES of a ring with two groups."""
    made = (ring.format(a, b) for a, b in itertools.product(GROUPS, repeat=2) for ring in RINGS)
    found = list(dict.fromkeys(Chem.MolToSmiles(Chem.MolFromSmiles(smiles)) for smiles in made))
    if count > len(found):
        raise SystemExit(f"--drugs: at most {len(found)} without --smiles.")
    return found[:count]


def written(folder: Path, smiles: list[str], cells: int, members: int, positions: bool) -> None:
    """Tables and a model folder."""
    rng = np.random.default_rng(0)
    names = [f"LINE-{i}" for i in range(cells)]
    tpm = rng.gamma(0.5, 60, size=(cells, NUM_GENES))
    genes = [f"GEN{i}" for i in range(NUM_GENES)]
    pd.DataFrame({"name": [f"D{i}" for i in range(len(smiles))], "smiles": smiles}).to_csv(folder / "drugs.csv")
    pd.DataFrame(tpm, index=pd.Index(names, name="cell"), columns=genes).to_csv(folder / "tpm.csv")
    drugs = DrugTable(folder / "drugs.csv").all(Rejections("skip"))
    features = make_preprocess(drugs[:40], positions=positions)
    torch.manual_seed(0)
    models = [SynergyEGAT(num_genes=NUM_GENES, **sizes(features)).eval() for _ in range(members)]
    preprocess = {
        "expression": fit_expression(Expression(names, genes, tpm), names),
        "drug_features": features,
        "target": {"mean": 0.0, "sd": 1.0},
        "task": "regression",
        "graph": "2d",
        "train_drugs": features["drugs"],
        "train_cells": names,
    }
    card = Card(title="", summary="", targets={}, data="", data_licence="", split="", command="", seeds=[0])
    save_pretrained(
        folder / "model", Ensemble(models), task="synergy", preprocess=preprocess, metrics={}, split={}, card=card
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drugs", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--cells", type=int, default=5)
    parser.add_argument("--smiles", type=Path, help="a table with a column smiles")
    parser.add_argument("--ensemble", type=int, default=1)
    parser.add_argument("--positions", action="store_true", help="a model that reads conformers")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/synergy_screen.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    rows = []
    for count in arguments.drugs:
        given = pd.read_csv(arguments.smiles)["smiles"].drop_duplicates().tolist() if arguments.smiles else None
        smiles = given[:count] if given else molecules(count)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            written(folder, smiles, arguments.cells, arguments.ensemble, arguments.positions)
            files = {"drugs": str(folder / "drugs.csv"), "expression": str(folder / "tpm.csv")}
            seconds = []

            def step(files: dict[str, str] = files, folder: Path = folder, seconds: list[float] = seconds) -> None:
                start = time.perf_counter()
                out = str(folder / f"ranked-{len(seconds)}.csv")
                screen_files(str(folder / "model"), out=out, on_error="skip", quiet=True, **files)
                seconds.append(time.perf_counter() - start)

            memory = peak_memory(step)
            pairs = len(smiles) * (len(smiles) - 1) // 2 * arguments.cells
        rows.append(
            {
                "drugs": len(smiles),
                "cells": arguments.cells,
                "members": arguments.ensemble,
                "predictions": pairs,
                "seconds": seconds[0],
                "a second": pairs / seconds[0],
                "MiB": memory,
            }
        )
    print_and_save(rows, arguments.out)


if __name__ == "__main__":
    main()
