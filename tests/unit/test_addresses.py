"""Passwords in addresses: percent-encoded by us, kept apart, or refused with the way to write them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
import sqlalchemy as sa

from automl.addresses import fill_references, refuse_unclear_password, split_login
from automl.errors import ProblemError
from automl.history.sources.postgres import _libpq_address
from automl.problem import Problem
from automl.workspace import open_workspace
from tests.support.secrets import SECRETS, shown_parts


@pytest.mark.parametrize("secret", SECRETS)
def test_a_referenced_password_is_taken_as_it_is(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", secret)
    monkeypatch.setenv("WHO", "me@corp")
    for source in (
        "postgresql://app:${PW}@127.0.0.1:5533/app",
        "postgresql+psycopg://${WHO}:${PW}@host/db?sslmode=require",
    ):
        url = sa.make_url(fill_references(source, "history.source"))
        assert url.password == secret
        assert url.username in ("app", "me@corp")
        assert url.host in ("127.0.0.1", "host")
        address = _libpq_address(url)
        assert " " not in address
        assert sa.make_url(address).password == secret


def test_other_references_are_filled_in_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "db.example:5433")
    monkeypatch.setenv("WHOLE", "postgresql://me:p%40ss@host/db")
    assert (
        fill_references("postgresql://me@${HOST}/db", "x") == "postgresql://me@db.example:5433/db"
    )
    assert sa.make_url(fill_references("${WHOLE}", "x")).password == "p@ss"
    assert fill_references("sqlite:///data/me@home.db", "x") == "sqlite:///data/me@home.db"
    with pytest.raises(ProblemError, match="environment variable NOT_SET is not set"):
        fill_references("postgresql://me:${NOT_SET}@host/db", "x")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:p@TAILSECRET@host/db",
        "postgresql://app:p@TAIL/SECRET@host/db",
        "postgresql://app:p@TAILS:SECRET@host/db",
        "postgresql://app:p@x?TAILSECRET=v@host/db",
        "postgresql://host/db?user=app&password=TAILSECRET",
        "postgresql://host/db?sslpassword=TAILSECRET",
    ],
)
@pytest.mark.parametrize("name", ["AUTOML_DATABASE_URL", "MLFLOW_TRACKING_URI", "WAREHOUSE"])
def test_an_unclear_password_is_refused_with_the_way_to_write_it(
    url: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, url)
    read: Callable[[], object] = partial(open_workspace, tmp_path / "problem.toml")
    if name == "WAREHOUSE":
        read = partial(fill_references, "${WAREHOUSE}", "history.source")
    with pytest.raises(ProblemError, match=r"%40 for @|wanted user:\$\{NAME\}@host") as caught:
        read()
    assert caught.value.code == "url"
    assert not shown_parts("TAILSECRET", f"{caught.value} {caught.value.next_step}")
    assert "TAILS" not in str(caught.value)


def test_a_password_as_an_option_is_refused_in_a_problem_file(
    make_problem: Callable[..., Problem],
) -> None:
    for option in ("password=${PW}", "user=me&PassWord=TAILSECRET"):
        url = f"postgresql://host/db?{option}"
        with pytest.raises(ProblemError, match="found a password as an option") as caught:
            make_problem(replace={"sqlite:///world.db": url})
        assert "TAILSECRET" not in str(caught.value)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("encoded", [True, False])
def test_a_login_of_mlflow_is_kept_apart_from_its_address(
    secret: str, encoded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = secret if encoded else unquote(secret)  # a URL holds %41 for A
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    password = quote(secret, safe="") if encoded else secret
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://bob:{password}@host:5000/base")
    workspace = open_workspace(tmp_path / "problem.toml")
    assert workspace.tracking_uri == os.environ["MLFLOW_TRACKING_URI"] == "https://host:5000/base"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "bob"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == held
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")


def test_a_user_without_a_password_is_refused() -> None:
    with pytest.raises(ProblemError, match=r"found a user without a password") as caught:
        split_login("https://TOKENVALUE1@host", "MLFLOW_TRACKING_URI")
    assert "TOKENVALUE1" not in str(caught.value)
    assert "MLFLOW_TRACKING_TOKEN" in caught.value.next_step
    assert split_login("http://host:5000", "x") == ("http://host:5000", None)


def test_ordinary_addresses_are_not_refused() -> None:
    for url in (
        "",
        "sqlite:///a@b.db",
        "postgresql://me@corp:pw@host/db",
        "postgresql:///db?host=/tmp",
    ):
        refuse_unclear_password(url, "x")
