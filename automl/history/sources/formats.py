"""One data file of any format that is read: its columns, and its rows as Arrow tables.

The content decides how a file is unpacked, its ending how it is read.
"""

from __future__ import annotations

import codecs
import lzma
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.json
import pyarrow.parquet as pq

from automl.errors import HistoryError
from automl.history.sources import base
from automl.history.sources.dialects import Dialect

__all__ = [
    "COMPRESSED",
    "UNREADABLE",
    "Format",
    "bad_file",
    "file_names",
    "file_tables",
    "format_of",
    "read_head",
]

Format = Literal["parquet", "ipc", "orc", "csv", "json"]
SUFFIXES: dict[str, Format] = {
    **dict.fromkeys((".parquet", ".pq", ".parq"), "parquet"),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), "ipc"),
    ".orc": "orc",
    **dict.fromkeys((".csv", ".tsv", ".tab", ".psv"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson"), "json"),
}
COMPRESSED = (".gz", ".gzip", ".bz2", ".zst", ".zstd", ".xz", ".lz4", ".br")
CSV_BLOCK_BYTES = 8 << 20  # read at once
HEAD_BYTES = 1 << 16  # enough lines to see how a file is written
UNREADABLE = (
    pa.ArrowInvalid,
    pa.ArrowNotImplementedError,
    OSError,
    EOFError,
    UnicodeDecodeError,
    lzma.LZMAError,
)
_CODECS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_BINARY: dict[bytes, Format] = {b"PAR1": "parquet", b"ARROW1": "ipc", b"ORC": "orc"}
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)  # the first begins as UTF-16 does
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def format_of(file: Path, *, named: bool) -> Format | None:
    """How to read a file, by its ending; None if it is not read.

    A file without an ending is read if its first bytes name a format. `named`: the pattern spells the file's
    ending, so an unknown one is a CSV file.
    """
    name = Path(file.name.lower())
    if name.suffix in COMPRESSED and name.stem:
        name = Path(name.stem)
    found = SUFFIXES.get(name.suffix)
    if found is None and not file.suffix:
        start = _first_bytes(file)
        found = next((kind for magic, kind in _BINARY.items() if start.startswith(magic)), None)
    return found or ("csv" if named else None)


def file_names(file: Path, kind: Format, dialect: Dialect | None) -> list[str]:
    """The columns of a file, in its order."""
    if kind == "parquet":
        schema = pq.read_schema(file)
        index = [i["name"] for i in _range_indexes(schema)]
        return [*index, *(n for n in schema.names if not re.fullmatch(r"__index_level_\d+__", n))]
    if kind in ("ipc", "orc"):
        return list(ds.dataset(file, format=kind).schema.names)
    if kind == "json":
        with pa.json.open_json(_opened(file)) as reader:
            return list(reader.schema.names)
    assert dialect is not None
    with pa.csv.open_csv(
        _opened(file), read_options=_read_options(dialect), parse_options=_parse_options(dialect)
    ) as reader:
        return list(reader.schema.names)


def file_tables(
    file: Path, names: Sequence[str], kind: Format, dialect: Dialect | None
) -> Iterator[pa.Table]:
    """The rows of a file, with these columns, a chunk at a time."""
    if kind == "parquet":
        yield from _parquet_tables(file, names)
    elif kind in ("ipc", "orc"):
        dataset = ds.dataset(file, format=kind)
        for batch in dataset.to_batches(columns=list(names), batch_size=base.CHUNK_ROWS):
            yield pa.Table.from_batches([batch])
    elif kind == "json":
        with pa.json.open_json(_opened(file)) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch]).select(list(names))
    else:
        assert dialect is not None
        yield from _csv_tables(file, names, dialect)


def _csv_tables(file: Path, names: Sequence[str], dialect: Dialect) -> Iterator[pa.Table]:
    # everything as text: kinds are decided later, from the rows that stay
    options = pa.csv.ConvertOptions(
        column_types={name: pa.string() for name in names},
        include_columns=list(names),
        strings_can_be_null=True,
        null_values=[""],
    )
    with pa.csv.open_csv(
        _opened(file),
        read_options=_read_options(dialect),
        parse_options=_parse_options(dialect),
        convert_options=options,
    ) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _read_options(dialect: Dialect) -> pa.csv.ReadOptions:
    return pa.csv.ReadOptions(block_size=CSV_BLOCK_BYTES, skip_rows=dialect.skipped)


def _parse_options(dialect: Dialect) -> pa.csv.ParseOptions:
    return pa.csv.ParseOptions(newlines_in_values=True, delimiter=dialect.delimiter)


def _parquet_tables(file: Path, names: Sequence[str]) -> Iterator[pa.Table]:
    indexes = {i["name"]: i for i in _range_indexes(pq.read_schema(file)) if i["name"] in names}
    stored, row = [n for n in names if n not in indexes], 0
    for batch in ds.dataset(file).to_batches(columns=stored, batch_size=base.CHUNK_ROWS):
        table = pa.Table.from_batches([batch])
        for name, index in indexes.items():
            numbers = index["start"] + index["step"] * np.arange(row, row + len(batch))
            table = table.append_column(name, pa.array(numbers))
        row += len(batch)
        yield table


def _range_indexes(schema: pa.Schema) -> list[dict[str, Any]]:
    """Named indexes that pandas stored as a range instead of a column."""
    indexes = (schema.pandas_metadata or {}).get("index_columns", [])
    return [
        i for i in indexes if isinstance(i, dict) and i.get("kind") == "range" and i.get("name")
    ]


# ---------------------------------------------------------------- the bytes of a text


def read_head(file: Path) -> bytes:
    """The first bytes of a text file, unpacked.

    Raises
    ------
    HistoryError
        The file is an archive, or text in UTF-16 or UTF-32.
    """
    start = _first_bytes(file)
    if start.startswith(b"PK\x03\x04"):
        raise HistoryError(
            f"{file}: is a zip archive; wanted a plain or gzipped file",
            code="bad_file",
            next_step="Unpack it, or compress its content with gzip.",
        )
    with _opened(file) as stream:
        head: bytes = stream.read(HEAD_BYTES)
    encoding = "UTF-32" if head.startswith(_UTF32) else "UTF-16" if _is_utf16(head) else ""
    if encoding:
        raise HistoryError(
            f"{file}: is text in {encoding}; wanted UTF-8",
            code="encoding",
            next_step=f"iconv -f {encoding} -t UTF-8 {file.name} > utf8/{file.name}, or save it as UTF-8.",
        )
    return head


def _is_utf16(head: bytes) -> bool:
    """Whether bytes begin with the mark of UTF-16, or every other one is NUL."""
    sample = head[:512]
    halves = (sample[::2], sample[1::2])
    nul = any(len(half) > 1 and half.count(0) > 0.7 * len(half) for half in halves)
    return head.startswith(_UTF16) or nul


def _first_bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(8)
    except OSError:
        return b""  # reading it will say why


def _opened(file: Path) -> pa.NativeFile:
    start = _first_bytes(file)
    if start.startswith(b"\xfd7zXZ\x00"):
        return pa.PythonFile(lzma.open(file), mode="r")
    codec = next((name for magic, name in _CODECS.items() if start.startswith(magic)), None)
    if codec is None and file.suffix.lower() == ".br":  # has no mark of its own
        codec = "brotli"
    return pa.input_stream(str(file), compression=codec)


def bad_file(file: Path, error: Exception) -> HistoryError:
    """The error for a file that cannot be read, with its next step."""
    lines = str(error).splitlines() or [type(error).__name__]
    encoded = "UTF8" in lines[0] or isinstance(error, UnicodeDecodeError)
    if encoded:
        return HistoryError(
            f"{file}: cannot be read: {lines[0]}; the text is not UTF8, perhaps Latin-1 or Windows-1252",
            code="bad_file",
            next_step=f"iconv -f WINDOWS-1252 -t UTF-8 {file.name} > utf8/{file.name}, or save it as UTF-8.",
        )
    denied = isinstance(error, PermissionError)
    return HistoryError(
        f"{file}: cannot be read: {lines[0]}",
        code="no_right" if denied else "bad_file",
        next_step="Give this user the right to read the file."
        if denied
        else "Replace it with a complete file, then run the same command again.",
    )
