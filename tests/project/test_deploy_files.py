"""The files that a user deploys with: units that systemd accepts, and steps that `make setup` takes too."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.parcels import write_problem
from tests.support.units import exec_start, unit_environment

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
BIN = Path(sys.executable).parent


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", ["automl.service", "prefect-server.service"])
def test_systemd_accepts_the_unit(unit: str, tmp_path: Path) -> None:
    text = (DEPLOY / unit).read_text("utf-8")
    copy = tmp_path / unit
    copy.write_text(text.replace("/srv/automl/.venv/bin", str(BIN)), "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_restarts_the_process_and_takes_its_exit_after_sigterm_for_success() -> None:
    text = (DEPLOY / "automl.service").read_text("utf-8")
    assert {"Restart=always", "SuccessExitStatus=143", "KillMode=mixed"} <= set(text.splitlines())
    assert exec_start("automl.service") == [
        "/srv/automl/.venv/bin/automl", "schedule", "/srv/automl/problem.toml"
    ]  # fmt: skip
    assert unit_environment("automl.service") == {"PREFECT_API_URL": "http://127.0.0.1:4200/api"}
    server = unit_environment("prefect-server.service")
    assert server["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert server["PREFECT_SERVER_API_PORT"] == "4200"


def _steps(text: str, pip: str) -> list[str]:
    """Arguments of pip, without those that say how much it prints or keeps."""
    found = re.findall(rf"{re.escape(pip)} -m pip (.+)", text)
    return [re.sub(r"--(quiet|no-cache-dir) ?", "", line).strip() for line in found]


def test_the_container_installs_as_make_setup_does() -> None:
    container = (DEPLOY / "Containerfile").read_text("utf-8")
    make = (ROOT / "Makefile").read_text("utf-8")
    installed = [line.replace("-e .", ".") for line in _steps(make, "$(BIN)/python")]
    assert _steps(container, ".venv/bin/python") == installed
    copied = " ".join(re.findall(r"(?m)^COPY (.+)$", container)).split()
    assert [name for name in copied if name != "./" and not (ROOT / name).exists()] == []
    assert {"automl", "flows", "search_spaces", "requirements.lock"} <= set(copied)
    assert re.search(r'(?m)^ENTRYPOINT \["automl"\]$', container)
    assert re.search(r'(?m)^CMD \["schedule", "/problems/problem.toml"\]$', container)


@pytest.mark.slow
def test_the_container_s_command_starts_in_an_empty_environment(tmp_path: Path) -> None:
    file = write_problem(tmp_path)
    text = file.read_text("utf-8")
    file.write_text(f'{text}\n[schedule]\nretrain = "0 3 * * 1"\n', "utf-8")
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["automl", "schedule", str(file), "--check", "--json"],
        env=environment, cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"deployment": "cycle/parcels"' in done.stdout
    done = subprocess.run(
        ["automl", "schedule", str(file)],
        env=environment, cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "PREFECT_API_URL is not set" in done.stderr


def test_every_cron_line_is_a_command_with_a_file_or_folder() -> None:
    text = (DEPLOY / "crontab.example").read_text("utf-8")
    lines = [line for line in text.splitlines() if re.match(r"[*\d]", line)]
    commands = [re.sub(r"^(\S+ +){5}", "", line).split(" 2>>")[0] for line in lines]
    assert commands == [
        "automl cycle /srv/automl/problem.toml",
        "automl monitor /srv/automl/problem.toml",
        "automl status --all /srv/automl",
    ]


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("cron") is None or shutil.which("unshare") is None or os.geteuid() != 0,
    reason="needs Debian's cron, and root for a namespace of its own",
)
def test_cron_itself_runs_the_line(tmp_path: Path) -> None:
    """In a namespace of mounts, so that the machine's own crontabs are neither read nor changed."""
    from tests.support.cron import run_cron_until  # noqa: PLC0415  only where it can run

    run_cron_until(tmp_path, BIN, ROOT)
