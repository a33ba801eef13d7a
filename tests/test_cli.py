"""The command line as people meet it: real processes, started elsewhere, judged by what they leave."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from automl.store import Store
from automl.workspace import open_workspace
from tests.conftest import write_problem
from tests.launching import Launcher

COMMANDS = (
    "cycle",
    "retrain",
    "score",
    "schedule",
    "status",
    "leaderboard",
    "why",
    "ui",
    "check",
    "spaces",
    "doctor",
)
HEAVY = ("mlflow", "prefect", "optuna", "sklearn", "lightgbm")
AS_OF, NEXT = "2026-03-02", "2026-03-03"
COLUMNS = "parcel, sent_at, weight, carrier, arrived_after"


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout; fails if there is anything else."""
        assert self.out.count("\n") == 1
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document


@dataclass(frozen=True)
class Place:
    """A folder with a problem file, and another one to type commands in."""

    folder: Path
    elsewhere: Path
    launcher: Launcher | None = None

    @property
    def file(self) -> Path:
        return self.folder / "problem.toml"

    def run(self, *arguments: str, python: tuple[str, ...] = (), **environment: str) -> Answer:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AUTOML_", "MLFLOW_"))}
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, *python, "-m", "automl.cli", *arguments],
            cwd=self.elsewhere,
            env={**kept, "COLUMNS": "120", **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def order(self, *arguments: str, **environment: str) -> Answer:
        """As `run`, but the process is forked from one that has the libraries."""
        assert self.launcher is not None
        started, more = time.monotonic(), {"COLUMNS": "120", **environment}
        done = self.launcher.run(*arguments, at=self.elsewhere, **more)
        return Answer(done.code, done.out, done.said, time.monotonic() - started)

    def variant(self, replace: dict[str, str], *, contract: bool = True) -> Path:
        """The same problem from another file, changed; knows the contract unless told otherwise."""
        text = self.file.read_text(encoding="utf-8")
        for old, new in replace.items():
            assert old in text
            text = text.replace(old, new)
        file = self.folder / "variant.toml"
        file.write_text(text, encoding="utf-8")
        (self.folder / "variant.contract.json").unlink(missing_ok=True)
        if contract:
            shutil.copy(
                self.folder / "problem.contract.json", self.folder / "variant.contract.json"
            )
        return file

    def standing(self) -> dict[str, object]:
        """Everything that readers of tables and users of the registry rely on, byte for byte."""
        store = sqlite3.connect(self.folder / ".automl" / "automl.db")
        models = sqlite3.connect(self.folder / ".automl" / "mlflow.db")
        try:
            return {
                "predictions": repr(
                    store.execute("select * from parcels order by parcel").fetchall()
                ),
                "pointer": store.execute(
                    "select table_name, problem, generation from automl_pointer"
                ).fetchall(),
                "releases": store.execute(
                    "select id, model_version, digests, fingerprint from automl_release"
                ).fetchall(),
                "aliases": models.execute(
                    "select name, alias, version from registered_model_aliases"
                ).fetchall(),
                "versions": models.execute(
                    "select name, version, current_stage from model_versions"
                ).fetchall(),
                "contract": (self.folder / "problem.contract.json").read_bytes(),
            }
        finally:
            store.close()
            models.close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A problem that nobody has run yet."""
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    write_problem(tmp_path / "here")
    return Place(tmp_path / "here", tmp_path / "elsewhere")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher) -> Place:
    """A problem after its first cycle, with a champion and a table of predictions."""
    folders = tmp_path_factory.mktemp("published"), tmp_path_factory.mktemp("elsewhere")
    place = Place(*folders, launcher)
    write_problem(place.folder)
    answer = place.run("cycle", str(place.file), "--as-of", AS_OF)
    assert answer.code == 0, answer.err
    standing = place.standing()
    assert standing["aliases"] == [("parcels", "champion", 1)]
    assert len(str(standing["predictions"])) > 10_000
    return place


# ---------------------------------------------------------------- help and usage


def test_help_names_every_command(place: Place) -> None:
    answer = place.run("--help")

    assert answer.code == 0
    assert [name for name in COMMANDS if f" {name} " not in answer.out] == []


@pytest.mark.parametrize(
    "arguments", [("--help",), ("status", "FILE"), ("check", "FILE")], ids=lambda a: a[0]
)
def test_looking_loads_no_heavy_library(place: Place, arguments: tuple[str, ...]) -> None:
    named = [str(place.file) if a == "FILE" else a for a in arguments]

    answer = place.run(*named, python=("-X", "importtime"))

    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in answer.err.splitlines()
        if "|" in line
    }
    assert answer.code == 0
    assert "cyclopts" in loaded  # the list of imports was read rightly
    assert loaded.isdisjoint(HEAVY)


def test_importing_the_package_loads_no_heavy_library(tmp_path: Path) -> None:
    told = "import automl, sys; print([m for m in ('automl', *sys.argv[1:]) if m in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", told, *HEAVY],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "['automl']\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nope",), "--nope"),
        (("chek", "FILE"), "chek"),
        (("check", "FILE", "--nope"), "--nope"),
        (("cycle",), "--file requires an argument"),
        (
            ("cycle", "FILE", "--as-of", "yesterday"),
            "--as-of: found 'yesterday'; wanted a time such as",
        ),
        (("cycle", "FILE", "--budget", "5 parsecs"), "--budget: '5 parsecs' is not a duration"),
        (("check", "nowhere.toml"), "nowhere.toml: no such problem file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_ends_in_2_and_says_what_is_wrong(
    place: Place, arguments: tuple[str, ...], message: str
) -> None:
    answer = place.run(*(str(place.file) if a == "FILE" else a for a in arguments))

    assert answer.code == 2
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert not (place.folder / ".automl").exists()


def test_a_wrong_problem_file_ends_in_2_and_lists_every_mistake(place: Place) -> None:
    text = place.file.read_text(encoding="utf-8")
    for old, new in {
        '"roc_auc"': '"rmse"',
        '"linear"': '"linaer"',
        "origins = 2": "origins = 99",
        "seed     = 3": "sede     = 3",
        'label_delay = "1d"': 'label_delay = "soon"',
    }.items():
        assert old in text
        text = text.replace(old, new)
    place.file.write_text(text, encoding="utf-8")

    answer = place.run("check", str(place.file))

    assert answer.code == 2
    assert "5 mistakes" in answer.err
    for mistake in (
        "history.label_delay: 'soon' is not a duration",
        "sweep.sede: unknown key",
        "Did you mean 'seed'?",
        "validation.origins: found 99",
        "metric.name: 'rmse' does not fit task 'binary'",
        "'linaer' is no family",
        "Did you mean 'linear'?",
    ):
        assert mistake in answer.err


# ---------------------------------------------------------------- before any cycle


def test_check_says_what_is_valid_and_touches_nothing(place: Place) -> None:
    before = sorted(place.folder.iterdir())

    answer = place.run("check", str(place.file))

    assert answer.code == 0
    assert "parcels: the problem file is valid" in answer.out
    assert sorted(place.folder.iterdir()) == before
    assert list(place.elsewhere.iterdir()) == []


def test_check_json_is_one_document(place: Place) -> None:
    answer = place.run("check", str(place.file), "--json")

    assert answer.code == 0
    assert answer.document["schema"] == 1
    assert answer.document["problem"] == "parcels"
    assert list(answer.document["families"]) == ["baseline", "linear"]
    assert answer.document["workspace"] == str(place.folder / ".automl")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("status", 0, "no champion yet"),
        ("leaderboard", 2, "no retraining cycle yet"),
        ("why", 2, "no retraining cycle yet"),
    ],
)
def test_looking_before_any_cycle_says_that_there_is_none(
    place: Place, command: str, code: int, message: str
) -> None:
    answer = place.run(command, str(place.file))

    assert answer.code == code
    assert message in answer.out + answer.err
    assert "automl cycle" in answer.out + answer.err  # what to type next


@pytest.mark.parametrize(("command", "key"), [("status", "problem"), ("why", "error")])
def test_looking_before_any_cycle_answers_one_json_document(
    place: Place, command: str, key: str
) -> None:
    answer = place.run(command, str(place.file), "--json")

    assert key in answer.document
    assert answer.document.get("champion") is None


# ---------------------------------------------------------------- after a cycle


@pytest.mark.parametrize("command", ["status", "leaderboard", "why"])
def test_looking_answers_text_and_one_json_document_and_changes_nothing(
    published: Place, command: str
) -> None:
    before = published.standing()

    text = published.run(command, str(published.file))
    answer = published.run(command, str(published.file), "--json")

    assert (text.code, answer.code) == (0, 0)
    assert "parcels" in text.out
    assert answer.document["problem"] == "parcels"
    assert published.standing() == before


def test_why_says_how_much_was_searched_and_why_so_much(published: Place) -> None:
    text = published.run("why", str(published.file))
    answer = published.run("why", str(published.file), "--json")
    reason = "there is no champion that could be refit"
    assert answer.document["plan"] == {"kind": "full", "reason": reason}
    assert f"plan: full; {reason}" in text.out


def test_why_says_from_when_until_when_a_block_is(published: Place) -> None:
    text = published.run("why", str(published.file)).out
    blocks = published.run("why", str(published.file), "--json").document["blocks"]
    week = timedelta(days=7)
    assert blocks
    for b in blocks:
        assert date.fromisoformat(b["until"]) - date.fromisoformat(b["block"]) == week
        assert re.search(rf"{b['block']} +{b['until']} +{b['rows']} ", text)


def test_the_same_cycle_again_is_done_already(published: Place) -> None:
    before = published.standing()

    answer = published.run("cycle", str(published.file), "--as-of", AS_OF, "--json")

    assert answer.code == 0
    assert answer.document["already"]
    assert answer.document["status"] == "published"
    assert answer.document["model_version"] == 1
    assert published.standing() == before
    assert list(published.elsewhere.iterdir()) == []


REGRESSION = {
    'task     = "binary"': 'task     = "regression"',
    '"late"': '"hours"',
    '"roc_auc"': '"rmse"',
    "select * from parcels": f"select {COLUMNS}, 12.5 as hours from parcels",
}


def query(select: str) -> dict[str, str]:
    return {"select * from parcels": select}


TWICE = f"""select {COLUMNS}, late from parcels
union all select parcel, sent_at, weight + 1, carrier, arrived_after, late from parcels where parcel < 30"""
REFUSALS: dict[str, tuple[dict[str, str], int, str]] = {
    "constant target": (REGRESSION, 3, "target 'hours': every row holds 12.5"),
    "no labelled rows": (query(f"select {COLUMNS}, null as late from parcels"), 3, "no label"),
    "a column vanished": (
        query("select parcel, sent_at, carrier, arrived_after, late from parcels"),
        3,
        "column 'weight' vanished",
    ),
    "duplicate keys": (
        {'"select * from parcels"': f'"""{TWICE}"""'},
        3,
        "56 rows that share a key but differ",
    ),
    "source is missing": ({"world.db": "nowhere.db"}, 5, "no file at"),
}


@pytest.mark.parametrize(("replace", "code", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refused_data_changes_nothing_and_says_so(
    published: Place, replace: dict[str, str], code: int, message: str
) -> None:
    before = published.standing()
    file = published.variant(replace, contract=replace is not REGRESSION)

    answer = published.order("cycle", str(file), "--as-of", NEXT)

    assert answer.code == code, answer.err
    assert message in answer.err
    assert (
        "unchanged: champion is still version 1; table parcels still shows generation 1, 240 rows"
        in answer.err
    )
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert published.standing() == before


def test_a_single_class_is_refused_in_one_json_document_with_code_and_what_stayed(
    published: Place,
) -> None:
    before = published.standing()
    file = published.variant(query(f"select {COLUMNS}, 1 as late from parcels"))

    answer = published.order("retrain", str(file), "--as-of", NEXT, "--json")

    error = answer.document["error"]
    assert (answer.code, error["exit_code"], error["code"]) == (3, 3, "single_class")
    assert "target 'late': every row is" in error["message"]
    assert (
        "champion is still version 1; table parcels still shows generation 1" in error["unchanged"]
    )
    assert error["next"]
    assert published.standing() == before


def test_mlflow_that_does_not_answer_ends_in_5_soon_and_changes_nothing(published: Place) -> None:
    before = published.standing()

    answer = published.run(
        "cycle", str(published.file), "--as-of", NEXT, MLFLOW_TRACKING_URI="http://127.0.0.1:9"
    )

    assert answer.code == 5, answer.err
    assert "MLflow at http://127.0.0.1:9 does not answer" in answer.err
    assert "champion is still version 1" in answer.err
    assert answer.seconds < 10
    assert published.standing() == before


def test_a_cycle_that_somebody_else_holds_ends_in_7(published: Place) -> None:
    before = published.standing()

    with Store(open_workspace(published.file)).hold("parcels"):
        answer = published.order("score", str(published.file), "--as-of", NEXT)

    assert answer.code == 7, answer.err
    assert f"parcels: held by process {os.getpid()}" in answer.err
    assert published.standing() == before


ENDLESS = """
import time
from pathlib import Path


def rows(as_of, until):
    Path(__file__).with_name("pulling").touch()
    for _ in range(600):  # one long sleep would not notice a signal that came just before it
        time.sleep(0.1)
"""


def test_an_interrupted_cycle_ends_in_130_and_says_what_it_left(published: Place) -> None:
    before = published.standing()
    (published.folder / "endless.py").write_text(ENDLESS, encoding="utf-8")
    text = 'source      = "sqlite:///world.db"\nquery       = "select * from parcels"'
    file = published.variant({text: 'python = "endless:rows"'})
    command = [sys.executable, "-m", "automl.cli", "cycle", str(file), "--as-of", NEXT]
    process = subprocess.Popen(command, cwd=published.elsewhere, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while (
        not (published.folder / "pulling").exists()
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)

    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1]

    assert process.returncode == 130
    assert "interrupted; champion and predictions are as they were" in said
    assert "Traceback" not in said
    assert published.standing() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--as-of", "2026-02-23"), "is earlier than the newest cycle"),
        (("--as-of", AS_OF, "--again"), "--again: found no --reason"),
    ],
    ids=["backwards", "again without a reason"],
)
def test_what_would_rewrite_the_past_must_be_asked_for(
    published: Place, arguments: tuple[str, ...], message: str
) -> None:
    before = published.standing()

    answer = published.order("cycle", str(published.file), *arguments)

    assert answer.code == 2, answer.err
    assert message in answer.err
    assert published.standing() == before


def test_a_problem_file_that_changed_since_the_cycle_is_told(published: Place) -> None:
    before = published.standing()
    file = published.variant({'label_delay = "1d"': 'label_delay = "2d"'})

    answer = published.order("cycle", str(file), "--as-of", AS_OF)

    assert answer.code == 2, answer.err
    assert "has changed since the cycle of 2026-03-02" in answer.err
    assert "--again --reason" in answer.err
    assert published.standing() == before
