"""Users' files behind commands: own exit code and one JSON document, whatever a file does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from automl.errors import SpaceError
from automl.modeling import user_files
from automl.modeling.families import load_family
from automl.modeling.user_files import try_user_files
from automl.problem import load_problem
from tests.support.broken_families import IMPORTS, SPACES, write_family
from tests.support.commands import Launcher
from tests.support.parcels import write_problem


@pytest.mark.parametrize("how", IMPORTS)
def test_a_family_file_that_goes_wrong_when_it_loads_is_refused(
    server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    statement, reason = IMPORTS[how]
    monkeypatch.setattr(user_files, "LOAD_SECONDS", 0.5 if how == "hangs" else 60)
    entry = write_family(tmp_path, "own", IMPORT=statement)
    problem = load_problem(
        write_problem(tmp_path, "binary", replace={'"linear"]': f'"linear", "{entry}"]'})
    )
    with pytest.raises(SpaceError, match=re.escape(reason)) as caught:
        try_user_files(problem)
    assert str(tmp_path / "own.py") in str(caught.value)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("family = Family(**{**vars_(family), 'start': 3})", "start: found 3; wanted (priority, params)"),
        ("family = Family(**{**vars_(family), 'start': [(1, {'C': float('nan')})]})", "C = nan"),
        ("family = Family(**{**vars_(family), 'space': None})", "space: found NoneType; wanted a function"),
        ("family = Family(**{**vars_(family), 'tasks': {'rank'}})", "tasks: found {'rank'}"),
        ("family = Family(**{**vars_(family), 'encoding': 'x'})", "encoding: found 'x'"),
    ],
)  # fmt: skip
def test_a_family_with_wrong_values_is_refused(tmp_path: Path, change: str, found: str) -> None:
    copied = "vars_ = lambda f: {n: getattr(f, n) for n in ('name short tasks encoding start space build').split()}"
    entry = write_family(tmp_path, "own", IMPORT=f"{copied}\n{change}")
    with pytest.raises(SpaceError, match=re.escape(found)):
        load_family(entry, tmp_path)


PRINTING = (
    "print('noise'); os.write(1, b'noise'); subprocess.run(['echo', 'noise']); "
    "os.chdir('/'); signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "threading.Thread(target=time.sleep, args=[3600]).start()"
)


@pytest.mark.parametrize(
    ("changes", "code", "found"),
    [
        ({"IMPORT": PRINTING}, 0, ""),
        ({"IMPORT": "os._exit(0)"}, 2, "exit code 0"),
        ({"SPACE": SPACES["raises"][0]}, 2, "RuntimeError: boom"),
        ({"PREDICT": "return p[:-1]"}, 2, "predict_proba returned shape"),
    ],
    ids=["prints", "exits", "space", "predict"],
)
def test_check_finds_it_and_prints_one_document(
    launcher: Launcher, tmp_path: Path, changes: dict[str, str], code: int, found: str
) -> None:
    entry = write_family(tmp_path, "own", **changes)
    file = write_problem(tmp_path, "binary", replace={'"linear"]': f'"linear", "{entry}"]'})
    done = launcher.run("check", str(file), "--json")
    assert (done.code, len(done.out.splitlines())) == (code, 1), done.err
    assert found in done.document.get("error", {}).get("message", "")


def test_wrong_usage_is_a_document_too(launcher: Launcher) -> None:
    done = launcher.run("why", "--json")
    assert done.code == 2
    assert done.document["error"]["code"] == "usage"
