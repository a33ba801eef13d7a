"""A project has a verb per command: same words, same meaning, values instead of prints."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path

import pandas as pd
import pytest
from cyclopts import Argument

import automl
from automl import Project, open_project, report
from automl.api.arguments import moment_of
from automl.cli.entry import app
from automl.errors import NoModelError, PredictError, ProblemError
from tests.support.parcels import write_problem

SERVERS = {"ui", "schedule"}  # they run until they are stopped
OF_AN_INSTALLATION = {"spaces", "doctor"}  # no problem file
QUESTIONS = {"yes"}  # only a terminal puts them
OF_MANY_PROBLEMS = {"all"}  # a project is one problem
SHARED = {"file", "json", "quiet", "debug", "self"}


@pytest.fixture
def project(released: Path) -> Project:
    """Two weekly cycles have run; nothing here changes that."""
    return open_project(released)


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    """A problem that was never run."""
    return open_project(write_problem(tmp_path))


def commands() -> dict[str, set[str]]:
    """Arguments by command."""
    found = {}
    for name in app:
        if not name.startswith("-"):
            typed = {a.name.strip("-").replace("-", "_").lower() for a in _typed(name)}
            found[name] = typed - SHARED
    return found


def _typed(command: str) -> list[Argument]:
    """What can be typed after a command; options that stand in a dataclass one by one."""
    return [a for a in app[command].assemble_argument_collection() if a.parse and not a.children]


# ---------------------------------------------------------------- the same words


@pytest.mark.parametrize("name", sorted(set(commands()) - SERVERS - OF_AN_INSTALLATION))
def test_every_command_has_its_verb_with_the_same_arguments(name: str) -> None:
    # there is no project before its problem file
    verb = automl.init if name == "init" else getattr(Project, name)

    typed = commands()[name] - QUESTIONS
    if "from" in typed:  # a word of Python
        typed = typed - {"from", "to"} | {"start", "end"}
    assert set(inspect.signature(verb).parameters) - SHARED == typed - OF_MANY_PROBLEMS
    assert inspect.getdoc(verb)


# ---------------------------------------------------------------- look


def test_documents_are_those_of_the_commands(project: Project) -> None:
    problem, workspace = project.problem, project.workspace

    assert dict(project.status()) == report.status(problem, workspace)
    assert dict(project.why()) == report.why(problem, workspace, None)
    assert (
        project.champion()["champion"]["model_version"]
        == project.status()["champion"]["model_version"]
    )


def test_values_print_as_commands_do_and_are_tables_in_a_notebook(project: Project) -> None:
    shown = (
        project.status(),
        project.why(),
        project.champion(),
        project.history(),
        project.contract(),
        project.check(),
    )

    assert all(project.problem.name in str(value) for value in shown)
    assert all(value._repr_html_().startswith("<table") for value in shown)
    assert project.problem.name in project._repr_html_()


def test_the_leaderboard_is_a_frame_best_first(project: Project) -> None:
    trials = project.leaderboard()

    assert trials.index.name == "rank"
    assert {"family", "state", "roc_auc", "weight", "params"} <= set(trials.columns)
    newest = project.status()["cycles"][0]["as_of"]
    pd.testing.assert_frame_equal(trials, project.leaderboard(cycle=newest))


def test_the_evidence_has_a_row_per_blend_and_block(project: Project) -> None:
    evidence = project.evidence()

    assert {"blend", "start", "end", "loss", "kind"} <= set(evidence.columns)
    assert set(evidence["kind"]) <= {"out_of_sample", "in_sample"}


def test_predictions_are_the_live_generation(project: Project) -> None:
    frame = project.predictions()

    assert len(frame) == project.status()["live"]["rows"]
    assert set(frame["generation"]) == {project.status()["live"]["generation"]}


def test_classes_of_a_binary_problem_are_refused(project: Project) -> None:
    with pytest.raises(PredictError, match="found task 'binary'; wanted multiclass"):
        project.predictions(classes=True)


def test_predicting_rows_at_hand_gives_what_was_published(project: Project) -> None:
    published = project.predictions().set_index("parcel").sort_index()
    world = pd.read_sql(
        "select * from parcels", f"sqlite:///{project.problem.file.parent / 'world.db'}"
    )
    rows = world.set_index("parcel").loc[published.index].drop(columns="late")

    found = project.predict(rows)

    assert found.index.equals(rows.index)
    assert found["probability"].tolist() == pytest.approx(
        published["probability"].tolist(), abs=1e-12
    )


def test_rows_that_lack_a_column_are_not_predicted(project: Project) -> None:
    with pytest.raises(PredictError, match="the frame lacks column 'carrier'") as error:
        project.predict(pd.DataFrame({"sent_at": ["2026-03-02"], "weight": [1.0]}))
    assert error.value.next_step


def test_a_cell_that_does_not_fit_is_not_predicted(project: Project) -> None:
    with pytest.raises(PredictError, match="column 'weight': found 1 cells"):
        project.predict(
            pd.DataFrame({"sent_at": ["2026-03-02"], "weight": ["heavy"], "carrier": ["ant"]})
        )


# ---------------------------------------------------------------- run


def test_a_finished_cycle_returns_at_once_and_prints_nothing(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    as_of = moment_of(project.status()["champion"]["as_of"])

    result = project.cycle(as_of=as_of)

    assert result.already
    assert result.status in str(result)
    assert result.reason in result._repr_html_()
    assert capfd.readouterr() == ("", "")


def test_a_cycle_of_the_past_is_refused_as_on_the_command_line(project: Project) -> None:
    with pytest.raises(ProblemError, match="earlier than the newest cycle") as error:
        project.score(as_of="2026-01-20")
    assert error.value.code == "backwards"


def test_before_the_first_cycle_errors_say_what_to_do(fresh: Project) -> None:
    assert fresh.status()["champion"] is None
    with pytest.raises(PredictError, match="no predictions were published yet") as error:
        fresh.predictions()
    assert error.value.next_step == "project.cycle()"
    with pytest.raises(NoModelError, match="there is no champion yet"):
        fresh.predict(pd.DataFrame())
    with pytest.raises(ProblemError, match="no model has been released yet"):
        fresh.rollback(reason="try")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="this problem file does not exist"):
        open_project(tmp_path / "nothing.toml")


def test_library_loggers_have_a_handler_so_that_nothing_reaches_the_screen() -> None:
    assert any(isinstance(h, logging.NullHandler) for h in logging.getLogger("automl").handlers)
