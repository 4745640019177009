"""Train on a table of molecules, measure, and predict new ones: the whole task from Python."""

import tempfile
from pathlib import Path

from geoattn.domains.molecules.demo import make_demo_table
from geoattn.tasks import molecules

folder = Path(tempfile.mkdtemp())
make_demo_table(200).to_csv(folder / "molecules.csv", index=False)  # put your own file in its place

run = molecules.fit(
    folder / "molecules.csv",
    out=folder / "run",
    data={"targets": ["logp"], "split": "scaffold"},
    model={"name": "graph-attention", "hidden_channels": 32, "num_layers": 3},
    trainer={"max_epochs": 15},
)

print("RMSE on the test part:", run.metrics["test"]["rmse"])
print(molecules.predict(run.folder, ["CCO", "c1ccccc1O"]))
print("report:", run.folder / "report.html")
