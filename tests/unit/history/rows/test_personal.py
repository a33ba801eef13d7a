"""Personal columns: what is refused, and that no refusal quotes a cell."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from automl import history
from automl.errors import AutomlError, ContractError, HistoryError, ProblemError, UnreachableError
from automl.history import KEY_SECRET
from automl.history.contract import infer, load_contract, save_contract
from automl.problem import Problem, load_problem
from automl.report.data_tables import contract_document
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF
from tests.support.personal_markers import BROKEN, DAY, MARKER, SECRET, WEEK, Life, people
from tests.support.postgres import PostgresServer

# ---------------------------------------------------------------- refusals


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[..., Problem]:
    """A problem without a cycle, with its source; `source` replaces the source of its history."""

    def make(source: str = "", kind: str = "sqlite", **lines: str) -> Problem:
        lived = Life(tmp_path, kind)
        lived.write(people())
        return load_problem(lived.problem("binary", source, lines))

    return make


def shown(error: BaseException) -> str:
    """Everything that a user may see of an error, with `--debug` too."""
    return "".join(traceback.format_exception(error)) + str(getattr(error, "next_step", ""))


def pull(problem: Problem) -> history.Snapshot:
    return history.pull(problem, open_workspace(problem.file), AS_OF)


RAISES = """
import pandas as pd

def rows(as_of, until):
    raise {error}
"""
ERRORS: dict[str, tuple[str, type[AutomlError], str]] = {
    "any": (f"KeyError('{MARKER}')", HistoryError, "source_raises"),
    "chained": (f"ValueError('no') from KeyError('{MARKER}')", HistoryError, "source_raises"),
    "file": (
        f"FileNotFoundError(2, 'gone', '/people/{MARKER}')",
        UnreachableError,
        "source_unreachable",
    ),
    "import": (f"ImportError('{MARKER}')", ProblemError, "python"),
    "ours": (f"__import__('automl').ProblemError('{MARKER}')", HistoryError, "source_raises"),
}


@pytest.mark.parametrize(("error", "kind", "code"), ERRORS.values(), ids=ERRORS)
def test_of_an_error_in_a_callable_only_type_and_place_are_shown(
    fresh: Callable[..., Problem],
    error: str,
    kind: type[AutomlError],
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    module = f"source_{abs(hash(error))}"
    problem = fresh(f'python = "{module}:rows"')
    (problem.file.parent / f"{module}.py").write_text(RAISES.format(error=error), encoding="utf-8")

    with pytest.raises(kind, match=rf"at {module}\.py:5") as caught:
        pull(problem)

    assert caught.value.code == code
    assert MARKER not in str(caught.value)
    source_line = f"raise {error}"
    assert MARKER not in shown(caught.value).replace(source_line, "")


def test_a_driver_that_quotes_a_cell_is_not_quoted(
    fresh: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    source = f'source = "sqlite:///world.db"\nquery = "{BROKEN}"'
    open_problem = fresh(source, **{'personal    = ["badge", "email"]': "personal = []"})
    with pytest.raises(HistoryError, match=MARKER):  # without personal columns the cell is quoted
        pull(open_problem)

    with pytest.raises(HistoryError, match="the query failed: OperationalError at") as caught:
        pull(fresh(source))

    assert caught.value.code == "query_failed"
    assert MARKER not in shown(caught.value)


def test_postgres_that_quotes_a_cell_is_not_quoted(
    fresh: Callable[..., Problem], postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    url = postgres.new_database()
    engine = sa.create_engine(url)
    people().to_sql("parcels", engine, index=False)
    engine.dispose()
    problem = fresh(f'source = "{url}"\nquery = "select * from parcels where badge::int > 0"')

    with pytest.raises(HistoryError, match="the query failed") as caught:
        pull(problem)

    assert caught.value.code == "query_failed"
    assert MARKER not in shown(caught.value)


def test_a_truncated_row_of_a_csv_file_is_not_quoted(
    fresh: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    problem = fresh('files = "people.csv"')
    text = people().to_csv(index=False) + f"{MARKER}-torn,2026-02-01\n"
    (problem.file.parent / "people.csv").write_text(text, encoding="utf-8")

    with pytest.raises(HistoryError, match="cannot be read: ArrowInvalid at") as caught:
        pull(problem)

    assert caught.value.code == "bad_file"
    assert MARKER not in shown(caught.value)


def test_the_text_of_an_unexpected_error_is_hidden(
    fresh: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    problem = fresh()

    with (
        pytest.raises(AutomlError, match="IndexError at test_personal") as caught,
        history.hide_error_text(problem),
    ):
        raise IndexError(f"{MARKER}-9")

    assert caught.value.code == "unexpected"
    assert f"{MARKER}-9" not in shown(caught.value)


# ---------------------------------------------------------------- secret, problem file, contract


@pytest.mark.parametrize("secret", [None, "", "fifteen letters"])
def test_without_a_secret_nothing_is_pulled(
    fresh: Callable[..., Problem], secret: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if secret is not None:
        monkeypatch.setenv(KEY_SECRET, secret)
    problem = fresh('python = "asked:rows"')
    (problem.file.parent / "asked.py").write_text("1 / 0\n", encoding="utf-8")  # never imported
    workspace = open_workspace(problem.file)
    pulls = (
        lambda: history.pull(problem, workspace, AS_OF),
        lambda: history.pull_batch(problem, workspace, AS_OF, kinds={}),
        lambda: history.sample(problem, workspace, AS_OF, AS_OF - WEEK),
    )

    for run in pulls:
        with pytest.raises(
            ProblemError, match=r"AUTOML_KEY_SECRET is (not set|too short)"
        ) as caught:
            run()
        assert (caught.value.code, caught.value.exit_code) == ("no_key_secret", 2)
        assert not secret or secret not in shown(caught.value)

    assert not workspace.history(problem.name).exists()


def test_without_a_personal_key_no_secret_is_needed(fresh: Callable[..., Problem]) -> None:
    problem = fresh(**{'["badge", "email"]': '["email"]'})

    assert "email" not in history.read(pull(problem)).columns


def test_another_secret_pulls_everything_again_and_duplicates_no_row(
    fresh: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = fresh()
    workspace = open_workspace(problem.file)
    monkeypatch.setenv(KEY_SECRET, SECRET)
    first = pull(problem)
    contract = infer(history.read(first), problem)
    kinds = contract.kinds(problem)
    history.pull(problem, workspace, AS_OF + DAY, kinds=kinds)
    monkeypatch.setenv(KEY_SECRET, SECRET[::-1])

    second = history.pull(problem, workspace, AS_OF + 2 * DAY, kinds=kinds)

    assert (
        "have changed" in history.pulls(history.Folders(workspace.history(problem.name)))[-1].full
    )
    assert history.read(second)["badge"].is_unique
    assert second.rows == int(
        (people()["sent_at"] < pd.Timestamp((AS_OF + DAY).replace(tzinfo=None))).sum()
    )


def test_a_personal_column_that_the_source_lacks_is_refused(
    fresh: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    problem = fresh(**{'["badge", "email"]': '["badge", "emial"]'})

    with pytest.raises(HistoryError, match=r"history\.personal 'emial': column 'emial' is missing"):
        pull(problem)


def test_a_column_that_becomes_personal_is_not_read_under_an_old_contract(
    fresh: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    before = fresh(**{'["badge", "email"]': "[]"})
    contract = infer(history.read(pull(before)), before)
    save_contract(before, replace(contract, features={**contract.features, "email": "text"}))
    now = fresh()
    contract = load_contract(now)
    assert contract is not None

    with pytest.raises(ContractError, match=r"history\.personal keeps from being read") as caught:
        history.pull(now, open_workspace(now.file), AS_OF, kinds=contract.kinds(now))

    assert "contract problem.toml --accept" in caught.value.next_step

    contract_document(now, open_workspace(now.file), AS_OF, accept=True)

    contract = load_contract(now)
    assert contract is not None
    assert "email" not in contract.features
    snapshot = history.pull(now, open_workspace(now.file), AS_OF, kinds=contract.kinds(now))
    assert "email" not in history.read(snapshot).columns


def test_a_key_of_whole_numbers_can_become_personal(
    fresh: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    query = {
        "select * from parcels": "select cast(substr(badge, 13) as integer) as badge, sent_at, "
        "weight, carrier, arrived_after, late, email from parcels"
    }
    before = fresh(**{'["badge", "email"]': '["email"]', **query})
    contract = infer(history.read(pull(before)), before)
    assert contract.roles["badge"] == "whole"
    now = fresh(**query)

    frame = history.read(
        history.pull(now, open_workspace(now.file), AS_OF, kinds=contract.kinds(now))
    )

    assert set(frame["badge"].str.len()) == {32}
    assert frame["badge"].is_unique
