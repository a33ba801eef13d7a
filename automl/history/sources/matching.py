"""Which files `history.files` means: those to read with their hive partitions, and those left out.

As Spark, Hive and Arrow do: names that begin with `_` or `.` are not data, and a folder `shop=north` below the
named one is a column. A file that is there and cannot be read by its ending is counted, never skipped in silence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from automl.errors import HistoryError, UnreachableError
from automl.history.sources.formats import COMPRESSED, Format, format_of

__all__ = ["DataFile", "Matches", "find_files"]

READ = "parquet, ORC, Arrow, CSV, TSV and JSON lines, also compressed"
_WILD = re.compile(r"[*?\[]")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # how Hive and Spark write a missing value
_IN_PROGRESS = "._COPYING_"  # as HDFS calls a file that it still writes
# folders whose files alone do not say which rows are current
_TABLES: Mapping[str, str] = {"_delta_log": "Delta", ".hoodie": "Hudi"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A file to read, and the columns that its folders name."""

    path: Path
    format: Format
    partitions: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """The files to read, the folder that names are relative to, and files that are not read."""

    base: Path
    files: Sequence[DataFile]
    unread: Sequence[Path]


def find_files(pattern: str, root: Path) -> Matches:
    """The files that a pattern, relative to `root`, matches.

    Raises
    ------
    UnreachableError
        No file matches.
    HistoryError
        Files match, but none can be read; or the folder is a table of Delta, Iceberg or Hudi.
    """
    base, relative = root, Path(pattern)
    if relative.is_absolute():
        base = Path(relative.anchor)
        relative = relative.relative_to(base)
    parts = relative.parts
    fixed = next((i for i, part in enumerate(parts) if _WILD.search(part)), len(parts))
    # files whose ending the pattern names are wanted, whatever their ending
    last = parts[-1] if parts else "*"
    named = not _WILD.search(last) or not _WILD.search(Path(last).suffix or "*")
    files: list[DataFile] = []
    unread: list[Path] = []
    for path, walked in _below(_matching(base, parts), parts[fixed:], base, fixed):
        kind = format_of(path, named=named and not walked)
        if kind is None:
            unread.append(path)
        else:
            folders = path.relative_to(base).parts[fixed:-1]
            files.append(DataFile(path=path, format=kind, partitions=_partitions(folders)))
    if not files:
        raise _nothing(pattern, base, unread)
    return Matches(base=base, files=files, unread=unread)


def _matching(base: Path, parts: Sequence[str]) -> list[Path]:
    """What a pattern matches; `**` also enters folders that are links, as pathlib does not."""
    matches = set(base.glob(str(Path(*parts))))
    if "**" in parts:
        place = parts.index("**")
        for start in base.glob(str(Path(*parts[:place]))):
            links = (path for path in _walk(start) if path.is_symlink() and path.is_dir())
            matches |= {found for link in links for found in link.glob(str(Path(*parts[place:])))}
    return sorted(matches)


def _walk(folder: Path) -> Iterator[Path]:
    """Everything below a folder, also through links; a link to a folder that it lies in is not entered."""
    entered = {folder: {os.path.realpath(folder)}}
    for top, folders, files in os.walk(folder, followlinks=True):
        above = entered.pop(Path(top))
        for name in [*folders, *files]:
            yield Path(top, name)
        real = {name: os.path.realpath(Path(top, name)) for name in folders}
        folders[:] = [name for name in folders if real[name] not in above]
        entered |= {Path(top, name): {*above, real[name]} for name in folders}


def _below(
    matches: Sequence[Path], wild: Sequence[str], base: Path, fixed: int
) -> Iterator[tuple[Path, bool]]:
    """Files that match, and those in folders that match: path, and whether a folder was walked."""
    allowed = {part[0] for part in wild if part[0] in "._"}
    seen: set[Path] = set()  # `**` matches a folder and those below it
    for match in matches:
        _refuse_tables(match)
        inside = match.is_dir()
        for path in sorted(_walk(match)) if inside else [match]:
            _refuse_tables(path)
            parts = path.relative_to(base).parts[fixed:]
            # the parts that the pattern itself spells are meant, such as `.cache/*.csv`
            named = len(match.relative_to(base).parts[fixed:])
            hidden = any(_hidden(p) and p[0] not in allowed for p in parts[:named])
            hidden = hidden or any(map(_hidden, parts[named:]))
            if path.is_file() and not hidden and path not in seen:
                seen.add(path)
                yield path, inside


def _hidden(name: str) -> bool:
    if name.endswith(_IN_PROGRESS):
        return True
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _partitions(folders: Sequence[str]) -> dict[str, str | None]:
    """Columns that folders such as `shop=north` name; their texts are percent-encoded."""
    pairs = [part.split("=", 1) for part in folders if "=" in part[1:]]
    return {
        unquote(name): None if value in ("", _NO_VALUE) else unquote(value) for name, value in pairs
    }


def _refuse_tables(path: Path) -> None:
    if not path.is_dir():
        return
    kind = next((k for name, k in _TABLES.items() if (path / name).is_dir()), "")
    if not kind and any((path / "metadata").glob("*.metadata.json")):
        kind = "Iceberg"
    if kind:
        raise HistoryError(
            f"history.files: {path} is a table of {kind}, whose files also hold rows that were deleted or replaced; "
            "wanted plain files",
            code="table_format",
            next_step="Read the table in a function and name it in history.python.",
        )


def _nothing(pattern: str, base: Path, unread: Sequence[Path]) -> HistoryError | UnreachableError:
    if not unread:
        return UnreachableError(
            f"history.files {pattern!r}: no file matches below {base}",
            code="source_unreachable",
            next_step="Check the path; it is relative to the problem file.",
        )
    names = ", ".join(str(f.relative_to(base)) for f in unread[:3])
    return HistoryError(
        f"history.files {pattern!r}: none of the {len(unread)} files that match is read by its ending, such as "
        f"{names}; wanted {READ}",
        code="file_unread",
        next_step="Write them in one of these formats, or name their ending: "
        f'files = "{pattern.rstrip("/*")}/*.txt" reads them as CSV ({" ".join(COMPRESSED)} are unpacked).',
    )
