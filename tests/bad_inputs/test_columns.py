"""Bad inputs, rows 13 to 15 and 33 to 52: new, missing, changed and leaking columns, and odd cells."""

from __future__ import annotations

from datetime import time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automl.history.contract import contract_file, load_contract
from automl.problem import Problem
from tests.support.catalogue import (
    Case,
    Catalogue,
    Place,
    Refused,
    Seen,
    SetAside,
    Warned,
    Works,
    coming,
    good,
    some,
)
from tests.support.postgres import PostgresServer
from tests.support.table_sources import Rows

CASES = Catalogue()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_columns_are_refused_or_reported(
    case: Case, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    case.outcome.proves(lambda: case.run(Place(tmp_path, request)))


def used(problem: Problem) -> dict[str, str]:
    """The features of the contract, with their kinds."""
    contract = load_contract(problem)
    assert contract is not None
    return dict(contract.features)


def unused(problem: Problem) -> dict[str, str]:
    """Columns that are left out, with the reason."""
    contract = load_contract(problem)
    assert contract is not None
    return contract.unused


def changed(place: Place, kind: str, before: Rows, after: Rows) -> Seen:
    """A cycle on good rows, then one on what became of them."""
    problem = place.problem(kind)
    place.agree(problem, before, kind)
    place.source(kind).holds(after)
    return place.cycle(problem)


# ---------------------------------------------------------------- empty and infinite


@CASES(13, "empty-feature", Warned(r"column 'weight' is empty \[all_missing\]"))
def _(place: Place) -> Seen:
    return place.agree(place.problem(), good(weight=None))


# stricter than a warning: an empty column is refused even if the model hardly uses it
@CASES(
    14,
    "feature-turns-empty",
    Refused("feature_empty", "'dose': empty in all .* rows of the newest block"),
)
def _(place: Place) -> Seen:
    after = good(dose=lambda i: None if i > 257 else i % 5 + 0.5)
    return changed(place, "sqlite", good(dose=lambda i: i % 5 + 0.5), after)


@CASES(15, "infinite-feature", Warned("'weight': 3 infinite numbers are read as missing"))
def _(place: Place) -> Seen:
    seen = place.agree(place.problem("parquet"), some(good(), 3, weight=float("inf")), "parquet")
    assert seen.frame["weight"].head(3).isna().all()
    return seen


# ---------------------------------------------------------------- columns come and go


@CASES(33, "column-added", Warned(r"column 'colour' is new and not used.*\[column_new\]"))
def _(place: Place) -> Seen:
    seen = changed(place, "csv", good(), good(colour="red"))
    assert "colour" not in seen.frame.columns
    return seen


@CASES(
    34, "used-column-removed", Refused("missing_column", "column 'weight' is missing; found parc")
)
def _(place: Place) -> Seen:
    after = [{n: v for n, v in row.items() if n != "weight"} for row in good()]
    return changed(place, "sqlite", good(), after)


@CASES(34, "unused-column-removed", Warned("unused column 'note' is no longer in the"))
def _(place: Place) -> Seen:
    return changed(place, "sqlite", good(note=lambda i: f"note {i}"), good())


@CASES(35, "column-renamed", Refused("missing_column", "Was 'weight' renamed to 'weight_kg'"))
def _(place: Place) -> Seen:
    after = [{**row, "weight_kg": row["weight"]} for row in good()]
    for row in after:
        del row["weight"]
    return changed(place, "parquet", good(), after)


# ---------------------------------------------------------------- kinds


# no warning: nothing is lost, and a user could not act on it
@CASES(36, "lossless-types", Works())
def _(place: Place) -> None:
    problem = place.problem("parquet")
    rows = good(weight=lambda i: None if i % 7 == 3 else i % 50)
    digest = place.agree(problem, rows, "parquet").snapshot.digest
    file = place.folder / "rows.parquet"
    table = pq.read_table(file)
    position = table.column_names.index("weight")
    for kind in (pa.int32(), pa.int8(), pa.uint16(), pa.float64(), pa.decimal128(21, 2)):
        cells = table["weight"].cast(kind)
        pq.write_table(table.set_column(position, "weight", cells), file)
        assert place.cycle(problem).snapshot.digest == digest, kind


@CASES(37, "lossy-type", SetAside("kind_changed", 3))
def _(place: Place) -> Seen:
    return changed(place, "sqlite", good(), some(good(), 3, weight="heavy"))


@CASES(37, "many-lossy-cells", Refused("kind_changed", "'weight': found 4 values .*4 of 300"))
def _(place: Place) -> Seen:
    return changed(place, "csv", good(), some(good(), 4, weight="heavy"))


@CASES(38, "whole-numbers-beyond-floats", SetAside("kind_changed", 2))
def _(place: Place) -> Seen:
    return changed(place, "sqlite", good(), some(good(), 2, weight=2**53 + 1))


@CASES(38, "long-keys-stay-exact", Works())
def _(place: Place) -> None:
    rows = [{**row, "parcel": 2**60 + i} for i, row in enumerate(good())]
    seen = place.agree(place.problem(), rows)
    assert seen.frame["parcel"].tolist() == [2**60 + i for i in range(300)]


def nested(kind: str, name: str, found: str, value: Any) -> None:
    """A column that is neither numbers, texts nor times."""

    @CASES(39, name, Refused("bad_type", f"column 'odd': found {found}.*; wanted numbers", 2))
    def _(place: Place) -> Seen:
        return place.agree(place.problem(kind), good(odd=lambda _: value), kind)


nested("parquet", "list", "list", [1, 2])
nested("parquet", "struct", "struct", {"a": 1})
nested("parquet", "duration", "duration", timedelta(days=2))
nested("parquet", "time-of-day", "time64", time(2, 30))
nested("python", "list-object", "list", [1, 2])
nested("python", "dict-object", "dict", {"a": 1})
nested("python", "timedelta-column", "timedelta64", timedelta(days=2))


@CASES(39, "nested-later", Refused("bad_type", "column 'weight': found list", 2))
def _(place: Place) -> Seen:
    return changed(place, "python", good(), good(weight=lambda i: [i]))


@CASES(39, "mapped-types", Works())
def _(place: Place) -> None:
    problem = place.problem("python")
    rows = good(
        price=lambda i: Decimal(i % 9) / 4,
        shop=lambda i: UUID(int=i % 4),
        label=lambda i: (b"red", b"blue")[i % 2],
    )
    frame = place.agree(problem, rows, "python").frame
    kinds = used(problem)
    assert (kinds["price"], kinds["shop"], kinds["label"]) == ("number", "text", "text")
    assert frame["price"].tolist() == [i % 9 / 4 for i in range(300)]
    assert set(frame["label"]) == {"red", "blue"}


def postgres_problem(place: Place, columns: str) -> Problem:
    """Rows that PostgreSQL makes; `columns` are added to them."""
    server: PostgresServer = place.request.getfixturevalue("postgres")
    problem = place.problem()
    query = (
        "select i as parcel, timestamp '2026-02-28' - i * interval '4 hours' as sent_at, "
        f"i % 3 % 2 as late, {columns} from generate_series(1, 300) as i"
    )
    return place.edited(
        problem,
        {"sqlite:///rows.db": server.new_database(), '"select * from rows"': f"'''{query}'''"},
    )


@CASES(39, "mapped-types-of-postgres", Works())
def _(place: Place) -> None:
    columns = """(i % 9)::numeric(9, 2) as price, md5((i % 4)::text)::uuid as shop,
        '{"a": 1}'::json as paper, i % 2 = 0 as paid, 'x'::bytea as raw"""
    problem = postgres_problem(place, columns.replace("\n", " "))
    frame = place.cycle(problem).frame
    kinds = used(problem)
    assert (kinds["price"], kinds["shop"], kinds["paper"]) == ("number", "text", "text")
    assert (kinds["paid"], kinds["raw"]) == ("number", "text")
    assert set(frame["price"]) == set(map(float, range(9)))
    assert frame["shop"].str.fullmatch("[0-9a-f-]{36}").all()


for _type, _cell in {"array": "array[1, 2]", "interval": "interval '2 days'"}.items():

    @CASES(39, f"{_type}-of-postgres", Refused("bad_type", "column 'odd': found .*; wanted", 2))
    def _(place: Place, cell: str = _cell) -> Seen:
        return place.cycle(postgres_problem(place, f"{cell} as odd"))


# texts for yes and no are categories; booleans are numbers
@CASES(40, "booleans", Works())
def _(place: Place) -> None:
    problem = place.problem("parquet")
    rows = good(paid=lambda i: "tf"[i % 2], sent=lambda i: ("yes", "no")[i % 2], seen=lambda i: i % 2 == 0)  # fmt: skip
    place.agree(problem, rows, "parquet")
    kinds = used(problem)
    assert (kinds["paid"], kinds["sent"], kinds["seen"]) == ("text", "text", "number")


@CASES(41, "null-words", Works())
def _(place: Place) -> None:
    words = ("NA", "null", "None", "nan", "-")
    problem = place.problem("csv")
    seen = place.agree(problem, good(carrier=lambda i: words[i % 5]), "csv")
    assert set(seen.frame["carrier"]) == set(words)  # no text is read as missing
    file = contract_file(problem)
    declared = '"nulls": ["NA", "null", "None", "nan"]'
    file.write_text(file.read_text().replace('"nulls": []', declared), encoding="utf-8")
    seen = place.cycle(problem)
    assert seen.frame["carrier"].isna().sum() == 240
    assert set(seen.frame["carrier"].dropna()) == {"-"}


@CASES(42, "leading-zeros", Works())
def _(place: Place) -> None:
    seen = place.agree(place.problem("csv"), good(code=lambda i: f"00{i % 7}"), "csv")
    assert set(seen.frame["code"]) == {f"00{i}" for i in range(7)}


@CASES(43, "decimal-comma", SetAside("kind_changed", 3))
def _(place: Place) -> Seen:
    return changed(place, "csv", good(), some(good(), 3, weight="3,5"))


@CASES(43, "thousands", Refused("kind_changed", "'weight': found 300 values that are not num"))
def _(place: Place) -> Seen:
    return changed(place, "csv", good(), good(weight=lambda i: f"1,{i:03}.5"))


# ---------------------------------------------------------------- categories


@CASES(44, "unseen-categories", Warned(r"'carrier': \d+% of the newest cells hold .*'cow'"))
def _(place: Place) -> Seen:
    return changed(place, "sqlite", good(), good(carrier=lambda i: "cow" if i > 270 else "ant"))


@CASES(45, "category-as-text", Works())
def _(place: Place) -> None:
    problem = place.problem("parquet")
    plain = place.agree(problem, good(), "parquet").snapshot.digest
    for order in (["ant", "bee"], ["bee", "zebu", "ant"]):
        write_categories(place, order)
        assert place.cycle(problem).snapshot.digest == plain


def write_categories(place: Place, order: list[str]) -> None:
    """The good rows, carriers as codes of a list in this order."""
    frame = pd.DataFrame(good())
    frame["carrier"] = pd.Categorical(frame["carrier"], categories=order)
    frame.to_parquet(place.folder / "rows.parquet", index=False)


@CASES(46, "category-order", Works())
def _(place: Place) -> None:
    problem = place.problem("parquet")
    for order in (["ant", "bee"], ["bee", "ant"]):
        write_categories(place, order)
        carriers = place.cycle(problem).frame["carrier"].astype("object")
        assert carriers.where(carriers.notna(), None).tolist() == [r["carrier"] for r in good()]


@CASES(47, "many-categories", Works())
def _(place: Place) -> None:
    count = 21_000
    times = pd.date_range("2026-01-01", periods=count, freq="2min").astype("str")
    frame = pd.DataFrame(
        {
            "parcel": np.arange(count),
            "sent_at": times,
            "late": np.arange(count) % 3 % 2,
            "street": [f"street {i % 10_300}" for i in range(count)],
            "arrived_after": 0.0,
        }
    )
    frame.to_parquet(place.folder / "rows.parquet", index=False)
    problem = place.problem("parquet")
    place.cycle(problem, pd.Timestamp("2026-01-31", tz="UTC").to_pydatetime())
    assert unused(problem) == {"parcel": "key", "street": "more than 10,000 categories"}


@CASES(48, "ids-as-features", Works())
def _(place: Place) -> None:
    problem = place.problem("parquet")
    rows = good(ticket=lambda i: f"T{i:05}", counter=lambda i: 7000 + i * 3)
    place.agree(problem, rows, "parquet")
    reasons = {"parcel": "key", "ticket": "nearly unique text", "counter": "counts rows"}
    assert unused(problem) == reasons


# ---------------------------------------------------------------- leaks


@CASES(49, "leak", Refused("leak", r"'fee': predicts the target 'late' by itself \(1.000\)"))
def _(place: Place) -> Seen:
    return place.agree(place.problem(), good(fee=lambda i: i % 3 % 2 * 4.0 + 1))


@CASES(49, "allowed-leak", Works())
def _(place: Place) -> None:
    problem = place.problem()
    place.agree(problem, good(fee=lambda i: i % 5 + 0.5))
    place.source().holds(good(fee=lambda i: i % 3 % 2 * 4.0 + 1))
    file = contract_file(problem)
    text = file.read_text(encoding="utf-8")
    entry = '"fee": {"kind": "number"'
    assert entry in text
    file.write_text(text.replace(entry, f'{entry}, "allowed": {{"leak": "known at noon"}}'))
    place.cycle(problem)


# data do not show when a column becomes known: history.ignore declares it, and leaks are refused
@CASES(50, "known-only-later", Works())
def _(place: Place) -> None:
    seen = place.agree(place.problem(), good(arrived_after=lambda i: i % 3 % 2 * 4.0))
    assert "arrived_after" not in seen.frame.columns


@CASES(51, "target-in-batch", Warned("the batch contains the target 'late'; it was not read"))
def _(place: Place) -> Seen:
    problem = place.problem()
    place.agree(problem, [*good(), *coming()])
    seen = place.batch(problem)
    assert "late" not in seen.frame.columns
    return seen


# ---------------------------------------------------------------- cells


@CASES(52, "long-cells", Warned("'carrier': 2 texts were cut to a million characters"))
def _(place: Place) -> Seen:
    rows = some(good(), 2, carrier="é" * 1_000_001)
    seen = place.agree(place.problem("parquet"), rows, "parquet")
    assert seen.frame["carrier"].str.len().max() == 1_000_000
    return seen


@CASES(52, "nul-bytes", Warned("'carrier': 2 texts contained NUL bytes, which were removed"))
def _(place: Place) -> Seen:
    seen = place.agree(place.problem(), some(good(), 2, carrier="a\0nt"))
    assert set(seen.frame["carrier"].dropna()) == {"ant", "bee"}
    return seen


@CASES(52, "no-utf8", SetAside("kind_changed", 2))
def _(place: Place) -> Seen:
    return changed(place, "sqlite", good(), some(good(), 2, carrier=b"\xff\xfe"))
