"""Settings come from the environment, then mlflow.env, then defaults; paths resolve against the problem file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC
from pathlib import Path

import pytest

from automl import workspace
from automl.errors import ProblemError
from automl.problem import load_problem
from automl.redaction import redact
from automl.tracking import Registry
from automl.workspace import DEFAULTS, Settings, Workspace, now, open_workspace
from tests.support.parcels import write_problem

ROOT = Path(__file__).parents[2]
VARIABLES = ("MLFLOW_TRACKING_URI", "OMP_NUM_THREADS", "MLFLOW_HTTP_REQUEST_TIMEOUT", "EMPTY")


def exported(start: Path, cwd: Path, **environment: str) -> dict[str, str | None]:
    """What a fresh process sees after `export_settings`, and the file it used."""
    code = (
        "import json, os, sys; from pathlib import Path; from automl.workspace import export_settings\n"
        "used = export_settings(Path(sys.argv[1]))\n"
        f"print(json.dumps({{n: os.environ.get(n) for n in {VARIABLES!r}}} | {{'used': used and str(used)}}))"
    )
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code, str(start)],
        env=plain,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str | None] = json.loads(done.stdout)
    return found


def test_environment_wins_over_mlflow_env_and_that_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.env"
    file.write_text(
        "MLFLOW_TRACKING_URI=http://file\nOMP_NUM_THREADS=2\nEMPTY=\n", encoding="utf-8"
    )
    found = exported(tmp_path, tmp_path, OMP_NUM_THREADS="3")
    assert found == {
        "OMP_NUM_THREADS": "3",
        "MLFLOW_TRACKING_URI": "http://file",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": DEFAULTS["MLFLOW_HTTP_REQUEST_TIMEOUT"],
        "EMPTY": None,
        "used": str(file),
    }


def test_the_nearest_mlflow_env_at_or_above_the_problem_is_used_from_any_folder(
    tmp_path: Path,
) -> None:
    inner = tmp_path / "team" / "task"
    inner.mkdir(parents=True)
    for folder in (tmp_path, inner.parent):
        (folder / "mlflow.env").write_text(
            f"MLFLOW_TRACKING_URI=http://{folder.name}\n", encoding="utf-8"
        )
    assert exported(inner, ROOT)["MLFLOW_TRACKING_URI"] == "http://team"
    assert exported(Path(), inner)["MLFLOW_TRACKING_URI"] == "http://team"


def test_a_named_mlflow_env_is_used_instead_of_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "mlflow.env").write_text("MLFLOW_TRACKING_URI=http://near\n", encoding="utf-8")
    (tmp_path / "other.env").write_text("MLFLOW_TRACKING_URI=http://other\n", encoding="utf-8")
    found = exported(tmp_path, ROOT, AUTOML_MLFLOW_ENV="other.env")
    assert found["MLFLOW_TRACKING_URI"] == "http://other"


def test_a_named_mlflow_env_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError, match="non-zero exit status") as caught:
        exported(tmp_path, tmp_path, AUTOML_MLFLOW_ENV="typo.env")
    assert f"AUTOML_MLFLOW_ENV: found no file at {tmp_path / 'typo.env'}" in caught.value.stderr


def test_paths_resolve_against_the_problem_file_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "task").mkdir()
    opened = []
    for cwd, file in [("task", Path("problem.toml")), ("elsewhere", Path("../task/problem.toml"))]:
        monkeypatch.chdir(tmp_path / cwd)
        opened.append(open_workspace(file))
    assert opened[0] == opened[1]
    assert opened[0].home == tmp_path / "task" / ".automl"
    assert opened[0].resolve("data/x.csv") == tmp_path / "task" / "data" / "x.csv"
    assert opened[0].local_mlflow
    assert not (tmp_path / "task" / ".automl").exists()


@pytest.mark.parametrize(
    ("home", "found"), [("shared", "task/shared"), ("../shared", "shared"), ("", "task/.automl")]
)
def test_automl_home_is_read_from_the_problem_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, found: str
) -> None:
    monkeypatch.setenv("AUTOML_HOME", home)
    assert open_workspace(tmp_path / "task" / "problem.toml").home == tmp_path / found


def test_settings_of_the_environment_reach_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOML_HOME", str(tmp_path / "absolute"))
    monkeypatch.setenv("AUTOML_DATABASE_URL", "postgresql://db/automl")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    monkeypatch.setenv("AUTOML_WORKERS", "3")
    found = open_workspace(tmp_path / "problem.toml")
    assert found == Workspace(
        root=tmp_path,
        home=tmp_path / "absolute",
        database_url="postgresql://db/automl",
        tracking_uri="http://mlflow",
        workers=3,
    )
    assert not found.local_mlflow


def test_the_store_takes_its_password_from_the_environment_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_PASSWORD", "a@b/c")
    monkeypatch.setenv("AUTOML_DATABASE_URL", "postgresql://me:${APP_PASSWORD}@host/db")
    found = open_workspace(tmp_path / "problem.toml").database_url
    assert found == "postgresql://me:a%40b%2Fc@host/db"


def test_a_wrong_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_WORKERS", "many")
    with pytest.raises(ProblemError, match=r"environment: AUTOML_WORKERS: found 'many'"):
        open_workspace(tmp_path / "problem.toml")


def test_two_problems_of_one_workspace_share_no_folder(tmp_path: Path) -> None:
    found = open_workspace(tmp_path / "problem.toml", Settings())
    folders = [found.history, found.scratch, found.lock]
    assert len({folder(name) for folder in folders for name in ("one", "two")}) == 6


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg://me:secret@host/db", "postgresql+psycopg://me:***@host/db"),
        (
            "cannot open postgres://me:s/e:c@ret@host, sorry",
            "cannot open postgres://me:***@host, sorry",
        ),
        ("redis://:secret@host", "redis://:***@host"),
        ("a://u:secret@x and b://v:secret@y", "a://u:***@x and b://v:***@y"),
        (
            "postgresql://host/db?user=me&password=secret&sslmode=on",
            "postgresql://host/db?user=me&password=***&sslmode=on",
        ),
        ("sqlite:///data/warehouse.db", "sqlite:///data/warehouse.db"),
        ("http://host:5000/path", "http://host:5000/path"),
        ("mail me@host: no URL", "mail me@host: no URL"),
    ],
)
def test_redact_hides_passwords_and_nothing_else(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_the_clock_is_in_utc() -> None:
    assert now().tzinfo is UTC


@pytest.mark.slow  # MLflow makes its tables twice
def test_a_second_workspace_of_a_process_has_a_tracking_store_of_its_own(tmp_path: Path) -> None:
    uris = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        problem = load_problem(write_problem(tmp_path / name))
        workspace = open_workspace(problem.file)
        Registry(problem, workspace)
        uris.append(workspace.tracking_uri)
    assert uris == [
        f"sqlite:///{tmp_path / name / '.automl' / 'mlflow.db'}" for name in ("one", "two")
    ]
    assert all((tmp_path / name / ".automl" / "mlflow.db").exists() for name in ("one", "two"))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_an_mlflow_database_in_postgresql_needs_no_driver_name(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://me:${{x}}@host:5433/db?sslmode=require")
    uri = open_workspace(tmp_path / "problem.toml").tracking_uri
    assert uri == "postgresql+psycopg://me:${x}@host:5433/db?sslmode=require"


def test_files_are_read_again_with_every_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("A_TOKEN", "B_TOKEN", "C_TOKEN", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(workspace.FROM_FILES, "")
    monkeypatch.setenv("C_TOKEN", "of the user")
    (tmp_path / "mlflow.env").write_text("A_TOKEN=one\nB_TOKEN=two\nC_TOKEN=three\n")
    workspace.export_settings(tmp_path)
    assert [os.environ.get(n) for n in ("A_TOKEN", "B_TOKEN", "C_TOKEN")] == [
        "one", "two", "of the user"
    ]  # fmt: skip
    (tmp_path / "mlflow.env").write_text("A_TOKEN=renewed\n")
    workspace.export_settings(tmp_path)
    assert [os.environ.get(n) for n in ("A_TOKEN", "B_TOKEN", "C_TOKEN")] == [
        "renewed", None, "of the user"
    ]  # fmt: skip
    other = tmp_path / "other"
    other.mkdir()
    (other / "mlflow.env").write_text("B_TOKEN=of another problem\n")
    workspace.export_settings(other)
    assert [os.environ.get(n) for n in ("A_TOKEN", "B_TOKEN")] == [None, "of another problem"]


def test_the_file_of_credentials_replaces_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(workspace.FROM_FILES, "")
    monkeypatch.setenv("A_TOKEN", "old")
    monkeypatch.setenv("AUTOML_ENV_FILE", "secrets.env")
    with pytest.raises(ProblemError, match=r"AUTOML_ENV_FILE: found no file at .*secrets.env"):
        workspace.export_settings(tmp_path)
    (tmp_path / "secrets.env").write_text("A_TOKEN=new\n")
    (tmp_path / "mlflow.env").write_text("A_TOKEN=least\n")
    workspace.export_settings(tmp_path)
    assert os.environ["A_TOKEN"] == "new"


def test_the_login_in_an_address_changes_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")  # to be removed after the test
        monkeypatch.delenv(name)
    monkeypatch.setenv(workspace.FROM_FILES, "")
    for password in ("first-pass", "second-pass"):
        (tmp_path / "mlflow.env").write_text(
            f"MLFLOW_TRACKING_URI=http://me:{password}@127.0.0.1:1\n"
        )
        workspace.export_settings(tmp_path)
        opened = workspace.open_workspace(tmp_path / "problem.toml")
        assert opened.tracking_uri == "http://127.0.0.1:1"
        assert os.environ["MLFLOW_TRACKING_PASSWORD"] == password
    (tmp_path / "mlflow.env").write_text("MLFLOW_TRACKING_URI=http://127.0.0.1:1\n")
    workspace.export_settings(tmp_path)
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ
