"""The command line once a cycle has run: looking, repeating, and what is refused leaves all as it was."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from datetime import date, timedelta

import pytest

from automl.store import Store
from automl.workspace import open_workspace
from tests.support.commands import Launcher
from tests.support.parcels import write_problem
from tests.support.typing_commands import Place

AS_OF, NEXT = "2026-03-02", "2026-03-03"
COLUMNS = "parcel, sent_at, weight, carrier, arrived_after"


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
