"""Files appear under their name complete or not at all: they are written beside it, flushed to disk and renamed.

A crash, a full disk or a kill in the middle leaves the old file as it was. The temporary name keeps the suffix of the
final one, because many writers choose their format by it.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geoattn.errors import InputError

TEMPORARY_PREFIX = ".part-"


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path to write to, which becomes ``path`` when the block ends and vanishes when it fails.

    Args:
        path: the file to make or to replace; its folder must exist.

    Yields:
        a path in the same folder, with the same suffix, that does not exist yet.

    Raises:
        InputError: the operating system refused the write (disk full, no permission, no such folder). The message says
            why; ``path`` is as it was.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "table.csv"
        >>> with atomic_path(target) as temporary:
        ...     _ = temporary.write_text("a,b")
        >>> target.read_text()
        'a,b'
    """
    target = Path(path)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{target.name}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(_why(target, error)) from error
        raise
    with suppress(OSError):  # some file systems cannot flush a folder; the rename itself is done
        _flush(target.parent)


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` as `atomic_path` does."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, with line ends as they are, as `atomic_path` does."""
    atomic_write_bytes(path, text.encode())


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files that a killed process left anywhere below ``folder``."""
    for leftover in Path(folder).rglob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _why(target: Path, error: OSError) -> str:
    message = f"{target} cannot be written: {error.strerror or error}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{message} Free some space, or write to another folder. What stood there before is unharmed."
    if error.errno == errno.ENOENT:
        return f"{message} Make the folder {target.parent} first."
    return message
