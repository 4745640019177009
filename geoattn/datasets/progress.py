"""How far a long loop is: a bar in a terminal, a plain line now and then elsewhere. On standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0


def track(items: Iterable[T], total: int | None, label: str, *, show: bool = True) -> Iterator[T]:
    """The items themselves, with a progress display while they are taken.

    Args:
        items: what is worked on.
        total: how many there will be, if known.
        label: what happens, e.g. ``"Featurise"``.
        show: False for silence.
    """
    if not show:
        yield from items
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as bar

        yield from bar(items, description=label, total=total, console=Console(stderr=True), transient=True)
    else:
        yield from _lines(items, total, label)


def _lines(items: Iterable[T], total: int | None, label: str) -> Iterator[T]:
    last = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{label}: {number}{f' of {total}' if total else ''}", file=sys.stderr, flush=True)
