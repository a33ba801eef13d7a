"""`automl ui` opens the browser once the server responds, and only where a person sees it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from automl.cli import opening, show
from tests.support.parcels import write_problem

NAMES = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that were opened."""
    found: list[str] = []
    monkeypatch.setattr(opening.webbrowser, "open", lambda address: bool(found.append(address)))
    return found


@pytest.mark.skipif(sys.platform in {"darwin", "win32"}, reason="there a browser can always open")
@pytest.mark.parametrize("name", NAMES)
def test_a_browser_needs_a_display_or_to_be_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in NAMES:
        monkeypatch.delenv(other, raising=False)
    assert not opening.can_open()
    monkeypatch.setenv(name, "x")
    assert opening.can_open()


def test_it_opens_only_after_the_server_responds(
    opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    health, tries = tmp_path / "health", []
    monkeypatch.setattr(opening.time, "sleep", lambda _: tries.append(health.write_text("OK")))
    opening._main("http://127.0.0.1:1/page", health.as_uri())
    assert (opened, len(tries)) == (["http://127.0.0.1:1/page"], 1)


def test_it_gives_up_with_the_server(
    opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = iter([1, 1, 1, 2])
    monkeypatch.setattr(opening.os, "getppid", lambda: next(parents))
    monkeypatch.setattr(opening.time, "sleep", lambda _: None)
    opening._main("http://127.0.0.1:1/page", (tmp_path / "nothing").as_uri())
    assert opened == []


@pytest.mark.parametrize("no_browser", [False, True])
def test_the_command_becomes_the_server_and_opens_its_first_page(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    no_browser: bool,
) -> None:
    file, calls, waits = write_problem(tmp_path), [], []
    monkeypatch.setenv("BROWSER", "x")
    monkeypatch.setattr("automl.tracking.Connection", lambda _: None)
    monkeypatch.setattr(os, "execvpe", lambda *call: calls.append(call) or 0)
    monkeypatch.setattr(opening.subprocess, "Popen", lambda command, **_: waits.append(command))
    assert show.ui(file, port=5123, no_browser=no_browser) == 0
    [(program, command, environment)] = calls
    assert program == sys.executable
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert environment["MLFLOW_BACKEND_STORE_URI"].endswith("mlflow.db")
    assert "http://127.0.0.1:5123/" in capsys.readouterr().err
    assert [w[-1] for w in waits] == ([] if no_browser else ["http://127.0.0.1:5123/health"])
