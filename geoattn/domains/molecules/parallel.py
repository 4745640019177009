"""`chemistry` for many records: cached on disk, in several processes where it is slow."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from geoattn.domains.molecules.cache import ChemistryCache
from geoattn.domains.molecules.chemistry import Arrays, chemistry
from geoattn.domains.molecules.records import Record, RecordError

CHUNK = 256
"""Records worked on at a time: bounds the memory, and the work that a killed process loses."""

Result = Arrays | RecordError


def chemistry_many(
    records: Iterable[Record],
    options: dict[str, Any],
    descriptors: list[str] | None = None,
    *,
    processes: int | None = 1,
    cache_dir: str | Path | None = None,
) -> Iterator[tuple[Record, Result]]:
    """Each record with its arrays or with what is wrong with it, in order.

    Args:
        records: may be a stream; `CHUNK` of them are held at a time.
        options: the keys of ``preprocess`` that `chemistry` reads.
        descriptors: their names, or None.
        processes: for embedding and descriptors; None takes one per available core. The rest is quick and stays in
            this process. Workers start afresh (no fork), so scripts need no ``__main__`` guard and threads are safe.
        cache_dir: remembers embeddings and descriptors; None remembers nothing.
    """
    cache: ChemistryCache | None = None
    stream = iter(records)
    while chunk := list(islice(stream, CHUNK)):
        if not _is_slow(chunk, options, descriptors):
            results = _run(chunk, options, descriptors, workers=1)
        else:
            if cache_dir and cache is None:
                cache = ChemistryCache(Path(cache_dir), {**options, "descriptors": descriptors})
            results = _compute(chunk, options, descriptors, processes or available_cores(), cache)
        yield from zip(chunk, results, strict=True)


def available_cores() -> int:
    """Cores that this process may use, which a container or a batch system may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_slow(chunk: list[Record], options: dict[str, Any], descriptors: list[str] | None) -> bool:
    return descriptors is not None or (options["graph"] == "3d" and any(r.numbers is None for r in chunk))


def _compute(
    chunk: list[Record],
    options: dict[str, Any],
    descriptors: list[str] | None,
    workers: int,
    cache: ChemistryCache | None,
) -> list[Result]:
    if cache is None:
        return _run(chunk, options, descriptors, workers)
    keys = [cache.key(_source(record)) for record in chunk]
    known = cache.load(keys)
    missing = {key: record for key, record in zip(keys, chunk, strict=True) if key not in known}
    computed = dict(zip(missing, _run(list(missing.values()), options, descriptors, workers), strict=True))
    cache.store(computed)
    return [known[key] if key in known else computed[key] for key in keys]


def _source(record: Record) -> str:
    """All that the arrays of a record depend on."""
    if record.molblock is not None:
        return record.molblock
    return f"{'coordinates ' if record.numbers is not None else ''}{record.smiles}"


def _run(records: list[Record], options: dict[str, Any], descriptors: list[str] | None, workers: int) -> list[Result]:
    jobs = [Record(smiles=r.smiles, molblock=r.molblock, numbers=r.numbers) for r in records]
    if workers == 1 or len(jobs) < 2 * workers:
        return [_one(job, options, descriptors) for job in jobs]
    from joblib import Parallel, delayed

    return Parallel(n_jobs=workers, batch_size=4)(delayed(_one)(job, options, descriptors) for job in jobs)


def _one(record: Record, options: dict[str, Any], descriptors: list[str] | None) -> Result:
    try:
        return chemistry(record, options, descriptors)
    except RecordError as error:
        return error
