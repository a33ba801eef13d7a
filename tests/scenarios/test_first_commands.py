"""First commands of two workspaces on one empty PostgreSQL store, all at once; what a killed command leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import Launcher
from tests.support.parcels import write_problem
from tests.support.postgres import PostgresServer

ENDED = "published", "kept"


@pytest.mark.slow  # four times eight commands
@pytest.mark.parametrize("attempt", range(4))
def test_first_commands_of_two_workspaces_on_one_store_all_end_well(
    attempt: int, tmp_path: Path, launcher: Launcher, postgres: PostgresServer
) -> None:
    url = postgres.new_database()
    files = []
    for name in ("parcels", "letters"):
        folder = tmp_path / name
        folder.mkdir()
        edits = {"trials   = 4": "trials   = 2"}
        files.append(write_problem(folder, name=name, replace=edits))
    started = []
    for file in files:
        for verb, *options in (
            ("status",),
            ("cycle", "--as-of", "2026-03-02"),
            ("check", "--data"),
            ("cycle", "--as-of", "2026-03-02"),
        ):
            arguments = (verb, str(file), *options, "--json")
            started.append((verb, launcher.start(*arguments, AUTOML_DATABASE_URL=url)))
    ended = [(verb, command.wait()) for verb, command in started]
    for verb, done in ended:
        # of two cycles of one problem the second is busy, or finds the first one's result
        wanted = (0, 7) if verb == "cycle" else (0,)
        assert done.code in wanted, (verb, done.err, done.out)
        assert done.document
    for file in files:
        document = launcher.run("status", str(file), "--json", AUTOML_DATABASE_URL=url).document
        assert document["champion"]["model_version"] == 1
        assert document["live"]["rows"] > 0
        again = launcher.run(
            "cycle", str(file), "--as-of", "2026-03-02", "--json", AUTOML_DATABASE_URL=url
        )
        assert (again.code, again.document["already"]) == (0, True)


@pytest.mark.slow  # four commands
def test_lock_files_of_a_killed_command_lock_nothing(tmp_path: Path, launcher: Launcher) -> None:
    file = write_problem(tmp_path, replace={"trials   = 4": "trials   = 2"})
    killed = launcher.run(
        "cycle", str(file), "--as-of", "2026-03-02", AUTOML_FAULT="retrain.opened"
    )
    assert killed.code == -9
    locks = sorted(p.name for p in (tmp_path / ".automl" / "locks").iterdir())
    assert locks
    assert launcher.run("status", str(file)).code == 0
    done = launcher.run("cycle", str(file), "--as-of", "2026-03-02", "--json")
    assert (done.code, done.document["status"]) == (0, "published"), done.err
