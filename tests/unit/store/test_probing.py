"""Whether a store can be written to is found out without leaving anything behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from automl.cycles.connections import open_all
from automl.errors import UnreachableError
from automl.problem import Problem
from automl.store import Store, may_write, store_as_it_is
from automl.workspace import Workspace
from tests.support.postgres import PostgresServer


def test_a_store_in_the_workspace_is_not_created_by_looking(workspace: Workspace) -> None:
    assert "is created by the first command" in may_write(workspace)
    assert store_as_it_is(workspace) is None
    assert not workspace.home.exists()
    Store(workspace).engine.dispose()
    assert may_write(workspace).endswith("automl.db takes tables")


def test_postgresql_says_whether_a_user_may_create_tables(
    workspace: Workspace, make_problem: Callable[..., Problem], postgres: PostgresServer
) -> None:
    problem = make_problem(
        replace={"origins = 2": 'origins = 2\n[publish]\nparquet = "problem.toml/x"'}
    )
    url = postgres.new_database()
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    site = replace(workspace, database_url=url.replace("postgresql+psycopg", "postgres"))
    assert may_write(site).endswith("takes tables, and has none of ours yet")
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []
        connection.execute(sa.text("drop role if exists reader"))
        connection.execute(sa.text("create role reader login"))
        connection.execute(sa.text("revoke create on schema public from public"))
    assert all(c["passed"] for c in open_all(problem, site) if c["name"] != "parquet")
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []
    poor = str(sa.make_url(url).set(username="reader"))
    with pytest.raises(UnreachableError, match="permission denied for schema public"):
        may_write(replace(workspace, database_url=poor))
    failed = {c["name"]: c for c in open_all(problem, replace(workspace, database_url=poor))}
    assert [n for n, c in failed.items() if not c["passed"]] == ["store", "parquet"]
    assert failed["store"]["exit_code"] == 5
    assert f"cannot write into {problem.file}" in failed["parquet"]["found"]
