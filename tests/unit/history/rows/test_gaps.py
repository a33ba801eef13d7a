"""Texts that mean a gap: in columns of numbers and times only, reported once, and listed in the contract."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from automl.history.contract import accept, changes, contract_file, load_contract
from automl.history.rows.gaps import find_gaps, unused_text, without_gaps
from tests.support.catalogue import Place, good, some

WORDS = ["NA", "N/A", "#N/A", "NULL", "null", "nan", "NaN", "None", "-", "--", "?", ".", "\\N", " NA ", "#DIV/0!"]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    return Place(tmp_path, request)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_for_a_gap_is_found_in_texts_of_any_source(word: str) -> None:
    cells = ["1.5", word, "x", None]
    assert find_gaps(pa.array(cells)).tolist() == [False, True, False, False]
    mixed = pd.Series([1.5, word, "x", None], dtype="object")
    assert find_gaps(mixed).tolist() == [False, True, False, False]


def test_a_column_of_gaps_alone_stays_as_it_is() -> None:
    column = pa.array(["NA", "-", None])
    assert without_gaps(column) is column


@pytest.mark.parametrize("kind", ["csv", "sqlite", "parquet"])
@pytest.mark.parametrize("word", ["NA", "-", "\\N"])
def test_gaps_of_a_number_are_reported_once_and_listed(place: Place, kind: str, word: str) -> None:
    problem = place.problem(kind)
    rows = good(weight=lambda i: word if i % 17 == 3 else i / 8, carrier=lambda i: (word, "ant")[i % 2])  # fmt: skip
    seen = place.agree(problem, rows, kind)
    contract = load_contract(problem)
    assert contract is not None
    assert (contract.features["weight"], contract.gaps) == ("number", {"weight": (word,)})
    assert seen.frame["weight"].isna().sum() == sum(r["weight"] == word for r in rows)
    assert set(seen.frame["carrier"]) == {word, "ant"}  # a category stays one
    gaps = sum(r["weight"] == word for r in rows)
    (warning,) = [w for w in seen.warnings if "'weight'" in w and "gap_text" in w]
    assert f"{gaps} cells of numbers or times hold {word!r}, read as missing" in warning
    again = place.cycle(problem)
    assert again.snapshot.digest == seen.snapshot.digest
    assert not [w for w in again.warnings if "gap_text" in w]


def test_gaps_of_a_later_chunk_do_not_make_a_column_text(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automl.history.sources.base.CHUNK_ROWS", 50)
    rows = good(weight=lambda i: "NULL" if i > 250 else i / 8)
    seen = place.agree(place.problem(), rows)
    assert seen.frame["weight"].dtype == "float64"


def test_gaps_of_times_and_of_a_target_are_gaps(place: Place) -> None:
    rows = good(
        seen_at=lambda i: "NULL" if i % 9 == 2 else f"2026-01-{i % 28 + 1:02}",
        late=lambda i: "NA" if i % 50 == 7 else str(i % 3 % 2),
    )
    problem = place.problem("csv")
    seen = place.agree(problem, rows, "csv")
    assert seen.snapshot.dropped["no_label"] == 6
    assert str(seen.frame["seen_at"].dtype).startswith("datetime64")
    contract = load_contract(problem)
    assert contract is not None
    assert contract.gaps == {"late": ("NA",), "seen_at": ("NULL",)}


def test_a_new_word_is_taken_by_accept(place: Place) -> None:
    problem = place.problem("csv")
    place.agree(problem, good(), "csv")
    contract = load_contract(problem)
    assert contract is not None
    frame, gaps = pd.DataFrame(good()), {"weight": {"NA"}}
    frame["sent_at"] = pd.to_datetime(frame["sent_at"])
    found = [str(f) for f in changes(frame, contract, problem, gaps)]
    assert "weight: 'NA' read as missing [gap_new]" in found
    assert accept(frame, contract, problem, gaps).gaps == {"weight": ("NA",)}


def test_a_column_that_is_unused_because_of_its_texts_is_always_named(place: Place) -> None:
    problem = place.problem("csv")
    rows = good(load=lambda i: "n.v." if i % 40 == 3 else f"{i * 1.37:.3f}")
    for seen in (place.agree(problem, rows, "csv"), place.cycle(problem)):
        (line,) = [w for w in seen.warnings if "text_unused" in w]
        assert (
            "column 'load' is not used: nearly unique text; most are numbers, others such as 'n.v.'"
            in line
        )
        assert contract_file(problem).name in line


def test_the_contract_brings_an_unused_column_back(place: Place) -> None:
    problem = place.problem("csv")
    rows = good(load=lambda i: "n.v." if i % 40 == 3 else f"{i * 1.37:.3f}")
    place.agree(problem, rows, "csv")
    file = contract_file(problem)
    text = file.read_text(encoding="utf-8")
    entry = '"load": "nearly unique text; most are numbers, others such as \'n.v.\'"'
    assert entry in text
    text = text.replace(f",\n    {entry}", "").replace(
        '"features": {',
        '"gaps": {"load": ["n.v."]},\n  "features": {\n    "load": {"kind": "number"},',
    )
    file.write_text(text, encoding="utf-8")
    assert place.cycle(problem).frame["load"].isna().sum() == len(some(rows, 0)[3::40])


def test_ids_are_nearly_unique_texts_and_no_more() -> None:
    assert unused_text(pa.array([f"T{i:05}" for i in range(200)])) == "nearly unique text"


@pytest.mark.parametrize(
    "cell", ["1,234.5", "12.3%", "4 %", "$3.50", "3,5", "−3.2", "1 234", "3.5 kg"]
)
def test_an_unused_column_of_numbers_with_marks_is_called_so(cell: str) -> None:
    assert "numbers with other marks" in unused_text(pd.Series([cell] * 3, dtype="object"))


@pytest.mark.parametrize("cell", ["01.05.2026", "ticket 7", "a12", "10.0.0.17", "2026-01-05"])
def test_other_texts_are_not_called_numbers(cell: str) -> None:
    assert unused_text(pd.Series([cell] * 3, dtype="object")) == "nearly unique text"
