"""`check --data` and `doctor` open what a cycle will need, and change nothing: no file, table, row or version."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.commands import Launcher
from tests.support.old_workspace import open_old_workspace
from tests.support.parcels import write_problem
from tests.support.postgres import PostgresServer

COMMANDS = (("check",), ("check", "--data"), ("doctor",))


def files_of(folder: Path) -> dict[str, tuple[int, object]]:
    """Rights and content of every file and folder; of a database its rows."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if "__pycache__" in path.parts or path.name.endswith(("-wal", "-shm")):
            continue  # SQLite writes them to read, too
        content: object = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        if path.suffix == ".db":
            content = rows_of(f"sqlite:///{path}")
        found[str(path.relative_to(folder))] = (path.stat().st_mode, content)
    return found


def rows_of(url: str) -> dict[str, list[str]]:
    """Every row of every table."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
        quote = engine.dialect.identifier_preparer.quote
        found = {n: connection.execute(sa.text(f"select * from {quote(n)}")).all() for n in names}
    return {name: sorted(map(str, rows)) for name, rows in found.items()}


def look(launcher: Launcher, file: Path, **environment: str) -> None:
    """Every command that looks."""
    for verb, *options in COMMANDS:
        done = launcher.run(verb, str(file), *options, "--json", at=file.parent, **environment)
        assert done.code == 0, done.out + done.err
        assert done.document


@pytest.mark.slow  # commands import MLflow
@pytest.mark.parametrize("place", ["nothing", "workspace", "empty file", "empty PostgreSQL"])
def test_looking_creates_nothing_before_the_first_cycle_and_changes_nothing_after_it(
    place: str, tmp_path: Path, launcher: Launcher, postgres: PostgresServer
) -> None:
    file, environment = write_problem(tmp_path), {}
    if place == "workspace":
        assert launcher.run("cycle", str(file), "--as-of", "2026-03-02").code == 0
    if place == "empty file":
        uri = f"sqlite:///{tmp_path / 'elsewhere.db'}"
        environment = {"MLFLOW_TRACKING_URI": uri}
    urls = [postgres.new_database() for _ in range(2 * (place == "empty PostgreSQL"))]
    if urls:
        environment = {"AUTOML_DATABASE_URL": urls[0], "MLFLOW_TRACKING_URI": urls[1]}
    before = files_of(tmp_path)
    look(launcher, file, **environment)
    assert files_of(tmp_path) == before
    assert [rows_of(url) for url in urls] == [{}] * len(urls)
    if urls:
        done = launcher.run("cycle", str(file), "--as-of", "2026-03-02", **environment)
        assert done.code == 0, done.err
        assert list((tmp_path / ".automl" / "mlartifacts").rglob("MLmodel")), (
            "not in the current folder"
        )
        before, tables = files_of(tmp_path), [rows_of(url) for url in urls]
        look(launcher, file, **environment)
        assert (files_of(tmp_path), [rows_of(url) for url in urls]) == (before, tables)


@pytest.mark.slow  # commands import MLflow
def test_looking_does_not_upgrade_a_store_of_an_older_release(
    tmp_path: Path, launcher: Launcher
) -> None:
    file = open_old_workspace(tmp_path)
    before = files_of(tmp_path)
    for verb, *options in COMMANDS:
        done = launcher.run(verb, str(file), *options, at=file.parent)
        assert "Traceback" not in done.err
        assert verb != "check" or "--data" not in options or "upgrades it" in done.out
    assert files_of(tmp_path) == before
