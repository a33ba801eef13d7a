"""Bad inputs, rows 53 to 64: names with any characters, colliding names, too few or too many columns."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automl.history.contract import contract_file, load_contract
from automl.modeling.ensemble import assemble
from automl.modeling.families import load_families
from automl.modeling.features.matrices import Rows as Matrix
from automl.modeling.features.matrices import shape_of, write_matrices
from automl.problem import Problem
from automl.tracking import digest_folder, load_folder, save_folder
from tests.support.catalogue import Case, Catalogue, Place, Refused, Seen, Warned, Works, good
from tests.support.postgres import PostgresServer
from tests.support.table_sources import Rows

CASES = Catalogue()
LONG = "naïve_" * 9 + "s"  # 64 bytes


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_names_are_refused_or_used_unchanged(
    case: Case, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    case.outcome.proves(lambda: case.run(Place(tmp_path, request)))


def renamed(*names: str) -> Rows:
    """Good rows with features of these names, numbers and texts in turn."""
    rows = good()
    for i, row in enumerate(rows):
        weight, carrier = row.pop("weight"), row.pop("carrier")
        row |= {name: (weight, carrier, i % 11)[n % 3] for n, name in enumerate(names)}
    return rows


def fits(problem: Problem, seen: Seen) -> None:
    """LightGBM and a linear model fit on the columns; saved and loaded again, they predict the same."""
    contract = load_contract(problem)
    assert contract is not None
    rows, members = Matrix.of(seen.frame, problem, contract), []
    families = load_families(("lightgbm", "linear"), problem.file.parent)
    for family in families.values():
        folder = problem.file.parent / family.encoding
        encoder = write_matrices(rows, None, contract.features, family.encoding, folder)
        shape = shape_of(folder, problem, contract)
        estimator = family.build(family.start[0][1], shape, 0)
        estimator.fit(np.load(folder / "train_X.npy"), rows.y)
        members.append((family.name, 0.5, encoder, estimator))
    features = list(contract.features)
    model = assemble(members, contract, features)
    place = problem.file.parent / "model"
    save_folder(model, seen.frame[features].tail(20), list(families.values()), place)
    again = load_folder(place, digest_folder(place))
    expected = model.predict_proba(seen.frame[features])
    assert expected.shape == (len(seen.frame), 2)
    assert np.array_equal(again.predict_proba(seen.frame[features]), expected)


def any_names(row: int, name: str, kind: str, *names: str) -> None:
    """Columns of these names are used like any other."""

    @CASES(row, name, Works())
    def _(place: Place) -> None:
        problem = place.problem(kind)
        seen = place.agree(problem, renamed(*names), kind)
        contract = load_contract(problem)
        assert contract is not None
        assert {*names} <= {*contract.features}
        assert {*names} <= {*place.cycle(problem).frame.columns}
        fits(problem, seen)


any_names(53, "json-characters", "parquet", "a,b", 'c"d', "[e]", "{f}", "g:h", "i: j", "k\\l")
any_names(54, "spaces", "sqlite", "q r", "q_r", " lead", "trail ", "a :as_of b", "x:1")
any_names(55, "newline-in-name", "python", "a\nb", "tab\there", "c\r\nd")
any_names(56, "any-script", "sqlite", "🚚", "вес", "_lead", "1st", "it's", "100 %", "a.b")
any_names(59, "injection", "sqlite", 'x"; DROP TABLE rows; --', "'); DROP TABLE rows; --")


# left out, not renamed: usually it is the row number that pandas wrote as the index
@CASES(55, "empty-name", Warned(r"a column without a name is not used.*\[column_nameless\]"))
def _(place: Place) -> Seen:
    seen = place.agree(place.problem("csv"), renamed("", "carrier"), "csv")
    assert "" not in seen.frame.columns
    return seen


@CASES(59, "the-table-survives", Works())
def _(place: Place) -> None:
    place.agree(place.problem(), renamed('x"; DROP TABLE rows; --', "carrier"))
    with closing(sqlite3.connect(place.folder / "rows.db")) as connection:
        assert connection.execute("select count(*) from rows").fetchone() == (300,)


# ---------------------------------------------------------------- names that are taken


@CASES(57, "same-but-for-case", Refused("names_collide", "'Weight' and 'weight' differ only in", 2))
def _(place: Place) -> Seen:
    return place.agree(place.problem("parquet"), renamed("Weight", "carrier", "weight"), "parquet")


@CASES(57, "same-but-for-unicode", Refused("names_collide", "differ only in case or in their", 2))
def _(place: Place) -> Seen:
    names = ("Gr\u00f6\u00dfe", "carrier", "Gro\u0308sse")
    return place.agree(place.problem("csv"), renamed(*names), "csv")


@CASES(57, "ignored-name-collides", Works())
def _(place: Place) -> None:
    problem = place.problem("parquet", ignore='["arrived_after", "Weight"]')
    place.agree(problem, renamed("Weight", "carrier", "weight"), "parquet")


def twice(place: Place) -> None:
    """A file with one name twice."""
    table = pa.Table.from_pylist(good())
    pq.write_table(table.append_column("weight", table["weight"]), place.folder / "rows.parquet")


@CASES(58, "name-twice", Refused("column_twice", "found column 'weight' twice; wanted unique"))
def _(place: Place) -> Seen:
    twice(place)
    return place.cycle(place.problem("parquet"))


@CASES(58, "name-twice-in-query", Refused("column_twice", "found column 'weight' twice"))
def _(place: Place) -> Seen:
    place.source().holds(good())
    problem = place.edited(place.problem(), {"select *": "select *, weight"})
    return place.cycle(problem)


@CASES(60, "long-published-name", Refused("problem", "published column .*longer than 63 bytes", 2))
def _(place: Place) -> Problem:
    return place.problem(key=f'["{LONG}"]')


@CASES(60, "long-feature-name", Works())
def _(place: Place) -> None:
    # features are not published, so only the source limits their names
    seen = place.agree(place.problem("parquet"), renamed(LONG, "carrier"), "parquet")
    assert LONG in seen.frame.columns


@CASES(60, "name-cut-by-postgres", Works())
def _(place: Place) -> None:
    server: PostgresServer = place.request.getfixturevalue("postgres")
    query = (
        "select i as parcel, timestamp '2026-02-28' - i * interval '4 hours' as sent_at, "
        f'i % 3 % 2 as late, i % 7 as \\"{LONG}\\" from generate_series(1, 300) as i'
    )
    problem = place.edited(
        place.problem(), {"sqlite:///rows.db": server.new_database(), "select * from rows": query}
    )
    names = [n for n in place.cycle(problem).frame.columns if n.startswith("naïve")]
    # cut by PostgreSQL, so the contract lists the short name
    assert [len(n.encode()) for n in names] == [63]


@CASES(
    61, "published-name", Refused("problem", "column generation, a reserved column of the pred", 2)
)
def _(place: Place) -> Problem:
    return place.problem(key='["generation"]')


@CASES(
    61,
    "published-name-in-capitals",
    Refused("problem", "column As_Of, a reserved column of the", 2),
)
def _(place: Place) -> Problem:
    return place.problem(time='"As_Of"')


@CASES(61, "row-id-without-key", Refused("name_taken", "'row_id': this name is reserved", 2))
def _(place: Place) -> Seen:
    rows = good(row_id=lambda i: f"r{i}")
    return place.agree(place.problem("csv", key=""), rows, "csv")


@CASES(61, "feature-named-like-a-predictions-column", Works())
def _(place: Place) -> None:
    seen = place.agree(place.problem("parquet"), renamed("prediction", "class"), "parquet")
    assert {"prediction", "class"} <= {*seen.frame.columns}


# ---------------------------------------------------------------- how many


@CASES(62, "no-rows", Refused("no_history", "found no rows at all"))
def _(place: Place) -> Seen:
    (place.folder / "rows.csv").write_text("parcel,sent_at,weight,late,arrived_after\n")
    return place.cycle(place.problem("csv"))


@CASES(62, "one-row", Refused("too_few_rows", "found 1 labelled rows; wanted at least 200"))
def _(place: Place) -> Seen:
    return place.agree(place.problem(), good(1))


@CASES(63, "one-feature", Works())
def _(place: Place) -> None:
    problem = place.problem("parquet")
    place.agree(problem, renamed("weight"), "parquet")
    change_features(problem, lambda features: {"weight": features["weight"]})
    fits(problem, place.cycle(problem))


@CASES(63, "no-feature", Refused("no_features", "found no column under features"))
def _(place: Place) -> Seen:
    problem = place.problem()
    place.agree(problem, good())
    change_features(problem, lambda _: {})
    return place.cycle(problem)


def change_features(problem: Problem, change: Callable[[dict[str, object]], object]) -> None:
    """Edit the contract file as a user would."""
    file = contract_file(problem)
    content = json.loads(file.read_text(encoding="utf-8"))
    content["features"] = change(content["features"])
    file.write_text(json.dumps(content), encoding="utf-8")


# the warning estimates no seconds: the cost of a fit is known after the first, and the sweep keeps its budget
@CASES(64, "many-columns", Warned(r"1,0\d\d feature columns make fits slow.*\[many_columns\]"))
def _(place: Place) -> Seen:
    frame = pd.DataFrame(good())
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.normal(size=(300, 1010)), columns=[f"f{i}" for i in range(1010)])
    pd.concat([frame, wide], axis=1).to_parquet(place.folder / "rows.parquet", index=False)
    return place.cycle(place.problem("parquet"))
