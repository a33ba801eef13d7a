"""Which files a folder or pattern means, how each is read, and what is said of files that are not read."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pytest

from automl.errors import AutomlError, HistoryError
from automl.history import Snapshot, pull, read
from automl.problem import Problem, load_problem
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF
from tests.support.table_sources import DAY, KINDS, Source, parcels

ROWS = pd.DataFrame(parcels()).drop(columns="arrived_after")
TEXT = ROWS.to_csv(index=False)
LINES = ROWS.to_json(orient="records", lines=True)


def problem_on(folder: Path, files: str, history: str = "", **roles: str) -> Problem:
    problem = Source(folder, "csv").problem(history, ignore="", **roles)
    text = problem.file.read_text(encoding="utf-8").replace('"rows.csv"', f'"{files}"')
    problem.file.write_text(text, encoding="utf-8")
    return load_problem(problem.file)


def pulled(folder: Path, files: str, history: str = "", **roles: str) -> Snapshot:
    problem = problem_on(folder, files, history, **roles)
    return pull(problem, open_workspace(problem.file), AS_OF)


def put(path: Path, content: bytes | str = TEXT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def zstd(text: str) -> bytes:
    return pa.Codec("zstd").compress(text.encode(), asbytes=True)


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the rows, as a plain CSV file gives it."""
    folder = tmp_path_factory.mktemp("plain")
    put(folder / "rows.csv")
    return pulled(folder, "rows.csv").digest


# ---------------------------------------------------------------- formats

WRITERS: dict[str, Callable[[Path], object]] = {
    "a.CSV": put,
    "a.csv.gz": lambda p: put(p, gzip.compress(TEXT.encode())),
    "a.csv.bz2": lambda p: put(p, bz2.compress(TEXT.encode())),
    "a.csv.xz": lambda p: put(p, lzma.compress(TEXT.encode())),
    "a.csv.zst": lambda p: put(p, zstd(TEXT)),
    "unpacked.csv.gz": put,
    "packed.csv": lambda p: put(p, gzip.compress(TEXT.encode())),
    "a.tsv": lambda p: put(p, TEXT.replace(",", "\t")),
    "a.psv": lambda p: put(p, TEXT.replace(",", "|")),
    "semicolon.csv": lambda p: put(p, TEXT.replace(",", ";")),
    "excel.csv": lambda p: put(p, "sep=;\r\n" + TEXT.replace(",", ";")),
    "comma.csv": lambda p: put(p, ROWS.to_csv(index=False, sep=";", decimal=",")),
    "a.parquet": lambda p: ROWS.to_parquet(p, index=False),
    "a.pq": lambda p: ROWS.to_parquet(p, index=False),
    "A.PARQ": lambda p: ROWS.to_parquet(p, index=False),
    "part-00000": lambda p: ROWS.to_parquet(p, index=False),
    "a.feather": lambda p: pa.feather.write_feather(ROWS, p),
    "a.orc": lambda p: pa.orc.write_table(pa.Table.from_pandas(ROWS), p),
    "a.jsonl": lambda p: put(p, LINES),
    "a.ndjson.gz": lambda p: put(p, gzip.compress(LINES.encode())),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, digest: str) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    WRITERS[name](tmp_path / "in" / "deep" / name)
    assert pulled(tmp_path, "in").digest == digest


def test_files_of_several_endings_are_one_history(tmp_path: Path) -> None:
    put(tmp_path / "in" / "1.csv.gz", gzip.compress(ROWS[:10].to_csv(index=False).encode()))
    put(tmp_path / "in" / "2.tsv", ROWS[10:20].to_csv(index=False, sep="\t"))
    ROWS[20:].to_parquet(tmp_path / "in" / "3.pq", index=False)
    assert read(pulled(tmp_path, "in"))["parcel"].tolist() == ROWS["parcel"].tolist()


@pytest.mark.parametrize("pattern", ["in/a.txt", "in/*.txt", "in/a", "*/a"])
def test_a_named_file_is_read_as_csv_whatever_its_ending(
    tmp_path: Path, pattern: str, digest: str
) -> None:
    put(tmp_path / "in" / "a.txt")
    put(tmp_path / "in" / "a")
    assert pulled(tmp_path, pattern).digest == digest


# ---------------------------------------------------------------- what is left out


@pytest.mark.parametrize(
    "name",
    [
        "_temporary/0/part.parquet", "_SUCCESS", ".part.parquet.crc", "._rows.csv", ".ipynb_checkpoints/rows.csv",
        "__MACOSX/rows.csv", "_committed_1.csv", "rows.csv._COPYING_",
    ],
)  # fmt: skip
@pytest.mark.parametrize("pattern", ["in", "in/**", "in/*"])
def test_hidden_names_are_not_data(tmp_path: Path, name: str, pattern: str, digest: str) -> None:
    put(tmp_path / "in" / "rows.csv")
    put(tmp_path / "in" / name, b"\0\5\26\7")
    snapshot = pulled(tmp_path, pattern)
    assert snapshot.digest == digest
    assert not snapshot.warnings


@pytest.mark.parametrize("pattern", ["_in/*.csv", "_in", "./_in/_*.csv", "in/../_in"])
def test_a_hidden_name_that_the_pattern_spells_is_meant(
    tmp_path: Path, pattern: str, digest: str
) -> None:
    (tmp_path / "in").mkdir()
    put(tmp_path / "_in" / ("_rows.csv" if "_*" in pattern else "rows.csv"))
    assert pulled(tmp_path, pattern).digest == digest


def test_files_that_are_not_read_are_named(tmp_path: Path, digest: str) -> None:
    put(tmp_path / "in" / "rows.csv")
    for name in ("a.xlsx", "b.parquet.bak", "c.json", "d.csv.part", "readme"):
        put(tmp_path / "in" / name)
    put(tmp_path / "in" / "empty.csv", "")
    snapshot = pulled(tmp_path, "in")
    assert snapshot.digest == digest
    (warning,) = [w for w in snapshot.warnings if "file_unread" in w]
    listed = "in/a.xlsx, in/b.parquet.bak, in/c.json and 3 more"
    assert "6 files are there but not read" in warning
    assert listed in warning


def test_files_that_are_not_read_are_named_before_a_refusal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "in" / "rows.csv", TEXT.partition("\n")[0] + "\n")
    put(tmp_path / "in" / "rows.csv.zip")
    with pytest.raises(HistoryError, match="found no rows at all"):
        pulled(tmp_path, "in")
    assert "1 file is there but not read" in caplog.text
    assert "in/rows.csv.zip" in caplog.text


@pytest.mark.parametrize("pattern", ["in", "in/*", "in/**/*.csv", "in/old/*.csv"])
def test_folders_that_are_links_are_read_once(tmp_path: Path, pattern: str, digest: str) -> None:
    put(tmp_path / "archive" / "2026" / "rows.csv")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "old").symlink_to(tmp_path / "archive" / "2026")
    (tmp_path / "archive" / "2026" / "loop").symlink_to(tmp_path / "archive" / "2026")
    assert pulled(tmp_path, pattern).digest == digest


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in/a.xlsx", b"PK\3\4", "none of the 1 files that match is read by its ending, such as in/a.xlsx"),
        ("in/a.csv", b"PK\3\4....", "a.csv: is a zip archive"),
        ("in/a.csv", TEXT.encode("utf-16"), "a.csv: is text in UTF-16; wanted UTF-8"),
        ("in/a.csv", TEXT.encode("utf-16-be"), "a.csv: is text in UTF-16; wanted UTF-8"),
        ("in/a.csv.gz", gzip.compress(TEXT.encode("utf-16")), "a.csv.gz: is text in UTF-16"),
        ("in/a.jsonl", LINES.encode("utf-16"), "a.jsonl: is text in UTF-16"),
        ("in/a.csv", TEXT.replace("ant", "käfer").encode("latin-1"), "perhaps Latin-1 or Windows-1252"),
        ("in/a.csv.gz", gzip.compress(TEXT.encode())[:-60], "a.csv.gz: cannot be read"),
        ("in/_delta_log/0.json", b"{}", "is a table of Delta"),
        ("in/metadata/v1.metadata.json", b"{}", "is a table of Iceberg"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    put(tmp_path / name, content)
    with pytest.raises(HistoryError, match=message):
        pulled(tmp_path, "in")


# ---------------------------------------------------------------- columns of folders


def test_folders_are_columns(tmp_path: Path) -> None:
    shops = {"north end": "shop=north%20end", "south": "shop=south"}
    for number, (start, shop) in enumerate(zip((0, 20), shops, strict=True)):
        folder = tmp_path / "in" / shops[shop] / f"day={number}"
        folder.mkdir(parents=True)
        ROWS[start : start + 20].to_parquet(folder / "part.parquet", index=False)
    frame = read(pulled(tmp_path, "in"))
    assert frame["shop"].tolist() == ["north end"] * 20 + ["south"] * 20
    assert frame["day"].tolist() == [0.0] * 20 + [1.0] * 20
    assert read(pulled(tmp_path, "in/*/*/*.parquet")).equals(frame)
    # as Spark: what the pattern itself spells is no column
    assert "shop" not in read(pulled(tmp_path, "in/shop=south"))


@pytest.mark.parametrize("spelling", ["{:%Y-%m-%d}", "{:%Y-%m-%d %H%%3A%M%%3A%S}"])
def test_the_time_may_be_a_folder(tmp_path: Path, spelling: str) -> None:
    rows = pd.DataFrame(parcels(12, every=DAY)).assign(
        sent_at=lambda r: pd.to_datetime(r["sent_at"])
    )
    for day, part in rows.groupby("sent_at"):
        folder = tmp_path / "in" / f"sent_at={spelling.format(day)}"
        put(folder / "rows.csv", part.drop(columns="sent_at").to_csv(index=False))
    assert read(pulled(tmp_path, "in"))["sent_at"].tolist() == rows["sent_at"].tolist()


def test_a_folder_without_a_value_is_a_gap(tmp_path: Path) -> None:
    for name, rows in (("__HIVE_DEFAULT_PARTITION__", ROWS[:20]), ("7", ROWS[20:])):
        put(tmp_path / "in" / f"shop={name}" / "rows.csv", rows.to_csv(index=False))
    assert read(pulled(tmp_path, "in"))["shop"].tolist() == pytest.approx(
        [float("nan")] * 20 + [7.0] * 20, nan_ok=True
    )


def test_a_key_may_be_a_folder(tmp_path: Path) -> None:
    for shop in (1, 2):
        put(tmp_path / "in" / f"shop={shop}" / "rows.csv")
    frame = read(pulled(tmp_path, "in", key='["shop", "parcel"]'))
    assert frame.groupby("shop").size().tolist() == [40, 40]


def test_a_column_of_the_file_must_agree_with_its_folder(tmp_path: Path) -> None:
    for carrier, rows in ROWS.fillna({"carrier": "cat"}).groupby("carrier"):
        put(tmp_path / "in" / f"carrier={carrier}" / "rows.csv", rows.to_csv(index=False))
    assert read(pulled(tmp_path, "in"))["carrier"].nunique() == 3
    put(tmp_path / "in" / "carrier=dog" / "rows.csv", ROWS[:1].to_csv(index=False))
    with pytest.raises(HistoryError, match="column 'carrier' holds 'ant', its folder says 'dog'"):
        pulled(tmp_path, "in")


def test_files_in_other_folders_than_the_rest_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "in" / "shop=1" / "rows.csv")
    put(tmp_path / "in" / "rows.csv")
    with pytest.raises(HistoryError, match="column 'shop' is not in every file"):
        pulled(tmp_path, "in")


# ---------------------------------------------------------------- marks of a CSV file


def test_a_decimal_comma_is_recognised_and_reported(tmp_path: Path, digest: str) -> None:
    put(tmp_path / "in" / "a.csv", ROWS[:20].to_csv(index=False, sep=";", decimal=","))
    put(tmp_path / "in" / "b.csv", ROWS[20:].to_csv(index=False, sep=";", decimal=","))
    snapshot = pulled(tmp_path, "in")
    assert snapshot.digest == digest
    assert "in/a.csv, in/b.csv: numbers are read with a decimal comma" in "".join(snapshot.warnings)
    snapshot = pulled(tmp_path, "in", 'decimal = ","\ndelimiter = ";"')
    assert (snapshot.digest, snapshot.warnings) == (digest, ())


@pytest.mark.parametrize(
    ("decimal", "cells", "wanted"),
    [
        (",", '"1.234,5"', 1234.5),
        (",", '"3,5"', 3.5),
        (".", '"1,234.5"', 1234.5),
        (".", '"1 234"', 1234.0),
        (".", "7", 7.0),
    ],
)
def test_declared_marks_are_read(tmp_path: Path, decimal: str, cells: str, wanted: float) -> None:
    text = ROWS.assign(weight="X").to_csv(index=False).replace("X", cells)
    put(tmp_path / "rows.csv", text)
    frame = read(pulled(tmp_path, "rows.csv", f'decimal = "{decimal}"'))
    assert set(frame["weight"]) == {wanted}


def test_two_decimal_marks_are_refused_until_one_is_declared(tmp_path: Path) -> None:
    rows = ROWS.assign(weight="3,5", height="4.5")
    put(tmp_path / "rows.csv", rows.to_csv(index=False, sep=";"))
    with pytest.raises(
        HistoryError, match=r"found '3,5' in column 'weight' and '4.5' in column 'height'"
    ):
        pulled(tmp_path, "rows.csv")
    frame = read(pulled(tmp_path, "rows.csv", 'decimal = ","'))
    assert (frame["weight"].max(), frame["height"].max()) == (3.5, 4.5)


@pytest.mark.parametrize(
    "setting", ['delimiter = "ab"', 'decimal = "x"', 'delimiter = ","\ndecimal = ","']
)
def test_wrong_marks_are_mistakes_of_the_problem_file(tmp_path: Path, setting: str) -> None:
    with pytest.raises(AutomlError, match=r"delimiter|decimal"):
        problem_on(tmp_path, "rows.csv", setting)


def test_a_new_file_of_a_folder_is_the_only_one_read_again(tmp_path: Path) -> None:
    put(
        tmp_path / "in" / "day=1" / "a.csv.gz",
        gzip.compress(ROWS[:39].to_csv(index=False).encode()),
    )
    problem = problem_on(tmp_path, "in")
    workspace, kinds = open_workspace(problem.file), {**KINDS, "day": "number"}
    pull(problem, workspace, AS_OF, kinds=kinds)
    put(
        tmp_path / "in" / "day=2" / "b.csv.gz",
        gzip.compress(ROWS[39:].to_csv(index=False).encode()),
    )
    snapshot = pull(problem, workspace, AS_OF + DAY, kinds=kinds)
    assert read(snapshot)["day"].tolist() == [1.0] * 39 + [2.0]
