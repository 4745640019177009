"""What reading more of a receptor, or the peptide otherwise, is worth: one fold, one seed, a short training each.

    python benchmarks/tcr_ablation.py tcr_split.csv [--models titan-masked titan] [--chains cdr3 full] [--epochs 8]

CDR3 or the full chain, the epitope as amino acids, SMILES or graph, both networks (TITAN a small one, its lengths those
of the data). Beside ROC AUC over all pairs and the mean over epitopes stands the gap to the same network without the
receptor, and the seconds of an epoch. The recipe is tcr-titan with fewer epochs and negatives.
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn.tasks import tcr
from geoattn.tasks._tcr_fit import EPITOPE_ONLY

MODELS: dict[str, dict[str, Any]] = {
    "titan-masked": {"channels": 96},
    "titan": {"filters": 16, "attention_channels": 32, "dropout": 0.2, "learning_rate": 1e-3},
}


def one(file: Path, name: str, chain: str, epitope: str, epochs: int, out: Path) -> dict[str, Any]:
    """The figures of one run; a finished run in ``out`` is read again."""
    folder = out / f"{name}-{chain}-{epitope}"
    run = tcr.fit(
        file,
        recipe="tcr-titan",
        out=folder,
        resume=(folder / "config.yaml").is_file(),
        data={"tcr": chain, "epitope": epitope, "fresh_negatives": 4, "batch_size": 640},
        model={"name": name, **MODELS[name]},
        trainer={"max_epochs": epochs},
    )
    test, alone = run.metrics["test"], run.metrics["baselines"]["test"][EPITOPE_ONLY]
    seconds = pd.read_csv(folder / "metrics.csv")["seconds"].median()
    return {
        "model": name,
        "tcr": chain,
        "epitope": epitope,
        "roc_auc": test["roc_auc"]["value"],
        "macro_roc_auc": test["macro_roc_auc"]["value"],
        "gap to epitope-only": test["roc_auc"]["value"] - alone["roc_auc"]["value"],
        "seconds per epoch": seconds,
        "parameters": sum(p.numel() for p in run.model.parameters()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--chains", nargs="+", default=["cdr3", "full"], choices=["cdr3", "full"])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/tcr-ablation"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, epitope, chain in itertools.product(arguments.models, ("aa", "graph", "smiles"), arguments.chains):
        rows.append(one(arguments.file, name, chain, epitope, arguments.epochs, arguments.out))
        print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.4g}"), flush=True)
    (arguments.out / f"{'-'.join([*arguments.models, *arguments.chains])}.json").write_text(
        json.dumps(rows, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
