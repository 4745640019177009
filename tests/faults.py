"""Scan of the test suite: plant one fault after another in a copy of the package; each must make a test fail.

    python tests/faults.py            all faults, some minutes
    python tests/faults.py attention  those whose file or description holds the word

Prints one line per fault and exits with 1 if any survives.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Fault:
    """Replace ``before`` by ``after`` in ``file``; the tests in ``caught_by`` must notice."""

    what: str
    file: str
    before: str
    after: str
    caught_by: str


FAULTS = [
    Fault("edge vector with the wrong sign", "geoattn/geometry/edges.py",
          "pos.index_select(0, nbr.source) - pos_target.index_select(0, nbr.target)",
          "pos_target.index_select(0, nbr.target) - pos.index_select(0, nbr.source)", "tests/layers/test_egnn.py"),
    Fault("self loops send messages", "geoattn/layers/egnn.py",
          "weight = (nbr.source != nbr.target).to(pos.dtype)[:, None]",
          "weight = torch.ones_like(nbr.source)[:, None].to(pos.dtype)", "tests/layers/test_egnn.py"),
    Fault("no envelope at the cutoff", "geoattn/layers/egnn.py",
          "weight = weight * polynomial_envelope(distance, cutoff)[:, None]", "pass", "tests/layers/test_egnn.py"),
    Fault("positions not averaged over neighbours", "geoattn/layers/egnn.py",
          "step = step / geometry.count", "step = step * 1", "tests/layers/test_egnn.py"),
    Fault("gate forgotten", "geoattn/layers/egnn.py",
          "gate * message, nbr, geometry)", "message, nbr, geometry)",
          "tests/layers/test_egnn.py"),
    Fault("length whose derivative at zero is NaN", "geoattn/layers/egnn.py",
          "vector = vector / (safe_norm(vector)[:, None] + self.norm_constant)",
          "vector = vector / (vector.norm(dim=-1)[:, None] + self.norm_constant)", "tests/layers/test_egnn.py"),
    Fault("sources and targets of the split layer exchanged", "geoattn/layers/egnn.py",
          "w_target, w_source, w_edge =", "w_source, w_target, w_edge =", "tests/layers/test_egnn.py"),
    Fault("attention without its scale", "geoattn/kernels/neighbor_attention/__init__.py",
          "scale = q.shape[2] ** -0.5 if scale is None else float(scale)",
          "scale = 1.0 if scale is None else float(scale)", "tests/layers/test_graph_attention.py"),
    Fault("attention forgets the mask of -inf", "geoattn/kernels/neighbor_attention/reference.py",
          "peak = peak.masked_fill(peak == -torch.inf, 0)  # no edge, or every edge masked", "pass",
          "tests/kernels/test_neighbor_attention.py"),
    Fault("attention's bias dropped in the compiled loop", "geoattn/kernels/neighbor_attention/__init__.py",
          "out, _ = attention_rows(q, k, v, bias, *edges", "out, _ = attention_rows(q, k, v, None, *edges",
          "tests/layers/test_graph_attention.py"),
    Fault("edge values not led back to the caller's order", "geoattn/kernels/neighborhood.py",
          "return edge_values if self._is_csr else edge_values[self.edge_id]", "return edge_values",
          "tests/layers/test_egnn.py"),
    Fault("index out of range accepted", "geoattn/kernels/neighborhood.py",
          "if low < 0 or high >= num:", "if low < 0:", "tests/kernels/test_neighborhood.py"),
    Fault("derivative of SiLU wrong", "geoattn/kernels/gather_silu/cpu.py",
          "(one + x * (one - s))", "(one - x * (one - s))", "tests/kernels/test_gather_silu.py"),
    Fault("softmax not shifted by its maximum", "geoattn/kernels/segment_softmax/reference.py",
          "weight = (logits - peak[target]).exp()", "weight = logits.exp()", "tests/kernels/test_segment_softmax.py"),
    Fault("mean divides by one too many", "geoattn/kernels/segment_reduce/reference.py",
          "_degree(row_ptr, x).clamp(min=1)", "(_degree(row_ptr, x) + 1)", "tests/kernels/test_segment_reduce.py"),
    Fault("molecules pooled as means where sums are asked for", "geoattn/domains/molecules/pooling.py",
          'if how == "sum":', 'if how == "max":', "tests/domains/test_molecule_models.py"),
    Fault("unknown elements accepted", "geoattn/domains/molecules/egnn_model.py",
          "bool((index < 0).any())", "False", "tests/domains/test_molecule_models.py"),
    Fault("checksum of weights ignored", "geoattn/hub/folder.py",
          'if _sha256(data) != config["sha256"].get(_WEIGHTS):', "if False:", "tests/hub/test_folder.py"),
    Fault("rays of new views take the place of other rays", "geoattn/models/multiview.py",
          "self._elements(target_extrinsics, target_intrinsics, pixels, size)",
          "self._elements(target_extrinsics, target_intrinsics, pixels.flip(2), size)",
          "tests/models/test_multiview.py"),
    Fault("poses stay in the frame of the file", "geoattn/domains/multiview/batch.py",
          'relative_poses(poses) if frame == "first" else poses', "poses", "tests/models/test_multiview.py"),
    Fault("ensemble sums instead of averaging", "geoattn/domains/ensemble.py", ".mean(0)", ".sum(0)",
          "tests/domains/test_ensemble.py"),
    Fault("report does not escape the user's text", "geoattn/report/page.py", "autoescape=True", "autoescape=False",
          "tests/report/test_page.py"),
    Fault("rotations tried are not orthogonal", "geoattn/testing/groups.py", "torch.linalg.qr(", "(lambda m: (m, m))(",
          "tests/testing/test_groups.py"),
]  # fmt: skip


def survives(fault: Fault) -> bool:
    """Whether the tests still pass with the fault planted."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("geoattn", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        path = copy / fault.file
        text = path.read_text(encoding="utf-8")
        if fault.before not in text:
            raise SystemExit(f"{fault.file} no longer holds {fault.before!r}: bring the list of faults up to date.")
        path.write_text(text.replace(fault.before, fault.after, 1), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", fault.caught_by]
        environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
        run = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        if run.returncode not in (0, 1):
            raise SystemExit(f"{fault.what}: the tests could not run.\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
        return run.returncode == 0


def main() -> None:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [fault for fault in FAULTS if word in fault.file or word in fault.what]
    survivors = []
    for fault in chosen:
        alive = survives(fault)
        survivors += [fault] if alive else []
        print(f"{'SURVIVES' if alive else 'caught  '}  {fault.what}  ({fault.file}; {fault.caught_by})", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults caught")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
