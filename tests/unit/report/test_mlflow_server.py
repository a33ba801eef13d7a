"""Where the decisions of a problem are: on our own server behind the first page, on another by its address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from automl.problem import Problem
from automl.report import mlflow_pages
from automl.workspace import Workspace

PLACE = "automl.report.mlflow_server.entry_points"


@pytest.fixture
def problem(make_problem: Callable[..., Problem]) -> Problem:
    return make_problem()


def test_our_own_server_opens_its_first_page(
    problem: Problem, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PLACE, lambda group: _Names(["automl", group]))
    pages = mlflow_pages(problem, workspace, 5001)
    assert pages.link == "http://127.0.0.1:5001/automl#/experiments?workflowType=machine_learning"
    assert pages.command[-2:] == ["--app-name", "automl"]
    assert not any("mlflow.db" in part for part in pages.command), "`ps` shows a command"


def test_without_the_entry_point_it_is_the_plain_server(
    problem: Problem, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PLACE, lambda group: _Names([group]))
    pages = mlflow_pages(problem, workspace, 5001)
    assert pages.link.startswith("http://127.0.0.1:5001/#/experiments")
    assert "--app-name" not in pages.command


def test_a_configured_server_is_not_started(problem: Problem, workspace: Workspace) -> None:
    pages = mlflow_pages(problem, replace(workspace, tracking_uri="http://mlflow.lan:80/"), 5001)
    assert (list(pages.command), pages.health) == ([], "")
    assert pages.link.startswith("http://mlflow.lan:80/#/experiments")


class _Names:
    def __init__(self, names: list[str]) -> None:
        self.names = names
