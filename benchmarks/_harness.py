"""What the benchmarks share: contenders in turn, medians, peak memory, a table and a JSON file.

Time is the median over rounds in which every contender runs once, so that other load on the machine meets all alike.

Memory is the peak of a step above what was resident before it: on the CPU the kernel's own high-water mark of the
process (``VmHWM``, reset through ``/proc/self/clear_refs``), which counts torch, numpy and compiled code; before it
is reset, the allocator gives back what is free. On CUDA, torch's allocator.
"""

import ctypes
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

Step = Callable[[], object]


def compare(steps: Mapping[str, Step], repeats: int, device: str = "cpu") -> list[dict[str, Any]]:
    """Time and memory of each step: a row per contender with ``by``, ``ms``, ``MiB`` and both relative to the first.

    Args:
        steps: contenders by name, ours first; each is run once more than ``repeats`` to warm up, once more for memory.
        repeats: rounds.
        device: ``"cpu"`` or ``"cuda"``.
    """
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            seconds[name].append(_timed(step, device))
    memory = {name: peak_memory(step, device) for name, step in steps.items()}
    rows = []
    for name in steps:
        rows.append({"by": name, "ms": 1e3 * statistics.median(seconds[name]), "MiB": memory[name]})
        rows[-1] |= {"ms, times ours": rows[-1]["ms"] / rows[0]["ms"], "fastest ms": 1e3 * min(seconds[name])}
        rows[-1] |= {"MiB, times ours": memory[name] / rows[0]["MiB"] if rows[0]["MiB"] else float("nan")}
    return rows


def _timed(step: Step, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(step: Step, device: str = "cpu") -> float:
    """Peak of the memory that ``step`` takes beyond what was there before, in MiB."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    step()
    return max(0.0, _status("VmHWM") - before)


def _status(field: str) -> float:
    """A field of this process's status in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024


def print_and_save(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """A table to standard output; rows, machine and versions to ``out`` as JSON."""
    print(table(rows))
    machine = {"processor": _processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": machine, "rows": list(rows)}, indent=1), encoding="utf-8")
    print(f"written to {out}")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as aligned columns; numbers with three significant digits."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
