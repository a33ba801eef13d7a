"""The command line after a cycle: inspecting, repeating, and refusals that change nothing."""

from __future__ import annotations

import json
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
    result = place.run("cycle", str(place.file), "--as-of", AS_OF)
    assert result.code == 0, result.err
    standing = place.standing()
    assert standing["aliases"] == [("parcels", "champion", 1)]
    assert len(str(standing["predictions"])) > 10_000
    return place


# ---------------------------------------------------------------- after a cycle


@pytest.mark.parametrize("command", ["status", "leaderboard", "why"])
def test_inspecting_prints_text_or_one_json_document_and_changes_nothing(
    published: Place, command: str
) -> None:
    before = published.standing()

    text = published.run(command, str(published.file))
    result = published.run(command, str(published.file), "--json")

    assert (text.code, result.code) == (0, 0)
    assert "parcels" in text.out
    assert result.document["problem"] == "parcels"
    assert published.standing() == before


def test_why_shows_how_much_was_searched_and_the_reason(published: Place) -> None:
    text = published.run("why", str(published.file))
    result = published.run("why", str(published.file), "--json")
    reason = "there is no champion that could be refit"
    assert result.document["plan"] == {"kind": "full", "reason": reason}
    assert f"plan: full; {reason}" in text.out


def test_why_shows_start_and_end_of_every_block(published: Place) -> None:
    text = published.run("why", str(published.file)).out
    blocks = published.run("why", str(published.file), "--json").document["blocks"]
    week = timedelta(days=7)
    assert blocks
    for b in blocks:
        assert date.fromisoformat(b["until"]) - date.fromisoformat(b["block"]) == week
        assert re.search(rf"{b['block']} +{b['until']} +{b['rows']} ", text)


def test_running_a_finished_cycle_again_changes_nothing(published: Place) -> None:
    before = published.standing()

    result = published.run("cycle", str(published.file), "--as-of", AS_OF, "--json")

    assert result.code == 0
    assert result.document["already"]
    assert result.document["status"] == "published"
    assert result.document["model_version"] == 1
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
    "constant target": (REGRESSION, 3, "target 'hours': found 12.5 in every row"),
    "no labelled rows": (query(f"select {COLUMNS}, null as late from parcels"), 3, "no label"),
    "a column vanished": (
        query("select parcel, sent_at, carrier, arrived_after, late from parcels"),
        3,
        "column 'weight' is missing",
    ),
    "duplicate keys": (
        {'"select * from parcels"': f'"""{TWICE}"""'},
        3,
        "56 rows that share a key but differ",
    ),
    "source is missing": ({"world.db": "nowhere.db"}, 5, "no file at"),
}


@pytest.mark.parametrize(("replace", "code", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refused_data_changes_nothing_and_the_message_names_the_reason(
    published: Place, replace: dict[str, str], code: int, message: str
) -> None:
    before = published.standing()
    file = published.variant(replace, contract=replace is not REGRESSION)

    result = published.order("cycle", str(file), "--as-of", NEXT)

    assert result.code == code, result.err
    assert message in result.err
    assert (
        "unchanged: champion is still version 1; table parcels still shows generation 1, 240 rows"
        in result.err
    )
    assert "Traceback" not in result.err
    assert result.out == ""
    assert published.standing() == before


def test_a_single_class_is_refused_in_one_json_document_with_code_and_what_is_unchanged(
    published: Place,
) -> None:
    before = published.standing()
    file = published.variant(query(f"select {COLUMNS}, 1 as late from parcels"))

    result = published.order("retrain", str(file), "--as-of", NEXT, "--json")

    error = result.document["error"]
    assert (result.code, error["exit_code"], error["code"]) == (3, 3, "single_class")
    assert "in every row; wanted at least two classes" in error["message"]
    assert (
        "champion is still version 1; table parcels still shows generation 1" in error["unchanged"]
    )
    assert error["next"]
    assert published.standing() == before


def test_an_unreachable_mlflow_exits_5_quickly_and_changes_nothing(published: Place) -> None:
    before = published.standing()

    # without the seconds of importing, which depend on what else the machine does
    result = published.order(
        "cycle", str(published.file), "--as-of", NEXT, MLFLOW_TRACKING_URI="http://127.0.0.1:9"
    )

    assert result.code == 5, result.err
    assert "MLflow at http://127.0.0.1:9 does not respond: the connection is refused" in result.err
    assert "Retrying" not in result.err
    assert "champion is still version 1" in result.err
    assert result.seconds < 10
    assert published.standing() == before


def test_a_cycle_held_by_another_process_exits_7(published: Place) -> None:
    before = published.standing()

    with Store(open_workspace(published.file)).hold("parcels"):
        result = published.order("score", str(published.file), "--as-of", NEXT)

    assert result.code == 7, result.err
    assert f"parcels: held by process {os.getpid()}" in result.err
    assert published.standing() == before


ENDLESS = """
import time
from pathlib import Path


def rows(as_of, until):
    Path(__file__).with_name("pulling").touch()
    for _ in range(600):  # one long sleep would not notice a signal that came just before it
        time.sleep(0.1)
"""


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupted_cycle_exits_130_or_143_and_names_what_is_unchanged(
    published: Place, number: signal.Signals
) -> None:
    before = published.standing()
    (published.folder / "pulling").unlink(missing_ok=True)
    (published.folder / "endless.py").write_text(ENDLESS, encoding="utf-8")
    text = 'source      = "sqlite:///world.db"\nquery       = "select * from parcels"'
    file = published.variant({text: 'python = "endless:rows"'})
    command = [sys.executable, "-m", "automl.cli", "cycle", str(file), "--as-of", NEXT, "--json"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=published.elsewhere, stdout=pipe, stderr=pipe, text=True
    )
    deadline = time.monotonic() + 60
    while (
        not (published.folder / "pulling").exists()
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)

    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)

    assert process.returncode == 128 + number
    assert f"error: interrupted by {number.name}" in stderr
    assert "champion is still version 1" in stderr
    document = json.loads(stdout)
    assert (document["error"]["code"], document["error"]["exit_code"]) == (
        "interrupted",
        128 + number,
    )
    assert "Traceback" not in stderr
    assert published.standing() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--as-of", "2026-02-23"), "is earlier than the newest cycle"),
        (("--as-of", AS_OF, "--again"), "--again needs --reason"),
    ],
    ids=["backwards", "again without a reason"],
)
def test_rewriting_the_past_needs_an_explicit_option(
    published: Place, arguments: tuple[str, ...], message: str
) -> None:
    before = published.standing()

    result = published.order("cycle", str(published.file), *arguments)

    assert result.code == 2, result.err
    assert message in result.err
    assert published.standing() == before


def test_a_problem_file_changed_since_the_cycle_is_refused(published: Place) -> None:
    before = published.standing()
    file = published.variant({'label_delay = "1d"': 'label_delay = "2d"'})

    result = published.order("cycle", str(file), "--as-of", AS_OF)

    assert result.code == 2, result.err
    assert "has changed since the cycle of 2026-03-02" in result.err
    assert "--again --reason" in result.err
    assert published.standing() == before
