"""What a model must pass before release, each guard with its number.

The model is loaded from the registry in a fresh process, because that is how everybody else will get
it. A guard that fails refuses the release; champion and predictions stay.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from automl.contract import Contract, load_contract
from automl.errors import AutomlError
from automl.predict import fingerprint, model_output
from automl.problem import Problem, load_problem
from automl.registry import Registry
from automl.spaces import load_families
from automl.workspace import open_workspace

__all__ = ["Guard", "check_model", "sample_rows"]

SAMPLE_ROWS = 200
CONSTANT_SHARE = 0.99  # more equal predictions than this say nothing
SECONDS = 120  # a model that cannot answer 200 rows in this time serves nobody


@dataclass(frozen=True, slots=True)
class Guard:
    """One check and the number it was judged by."""

    name: str
    passed: bool
    found: str
    wanted: str


def sample_rows(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """The newest rows, features only: the fixed sample of fingerprints."""
    return frame[list(contract.features)].tail(SAMPLE_ROWS).reset_index(drop=True)


def check_model(
    problem: Problem,
    version: int,
    digests: Mapping[str, str],
    sample: pd.DataFrame,
    *,
    recipe: str,
    losses: Mapping[str, float],
) -> tuple[list[Guard], str]:
    """Run all guards; returns them and the model's fingerprint.

    `losses` holds "model" and "floor", the losses on the newest block.

    Raises
    ------
    AutomlError
        A guard failed; the message names each with its number.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        sample.to_parquet(place / "sample.parquet")
        spec = {
            "problem": str(problem.file),
            "version": version,
            "digests": dict(digests),
            "recipe": recipe,
        }
        (place / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        command = [sys.executable, "-m", "automl.guards", folder]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise _refused(
                [Guard("fresh process", False, f"no answer in {SECONDS} s", "an answer")]
            ) from None
        answer = place / "answer.json"
        if done.returncode or not answer.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise _refused(
                [Guard("fresh process", False, last[:300], "the model loads and predicts")]
            )
        told = json.loads(answer.read_text(encoding="utf-8"))
    guards = [Guard(**g) for g in told["guards"]]
    floor = losses["model"] < losses["floor"] or problem.sweep.families == ("baseline",)
    guards.append(
        Guard(
            "beats the floor", floor, f"loss {losses['model']:.5g}", f"below {losses['floor']:.5g}"
        )
    )
    if any(not g.passed for g in guards):
        raise _refused(guards)
    return guards, told["fingerprint"]


def _refused(guards: list[Guard]) -> AutomlError:
    lines = "; ".join(
        f"{g.name}: found {g.found}, wanted {g.wanted}" for g in guards if not g.passed
    )
    return AutomlError(
        f"the new model did not pass its guards: {lines}",
        code="guards",
        next_step="Look at the model's run in MLflow; the next cycle tries again.",
    )


def _in_fresh_process(folder: Path) -> None:
    spec: dict[str, Any] = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    problem = load_problem(spec["problem"])
    contract = load_contract(problem)
    if contract is None:
        raise AssertionError("a model cannot be older than its contract")
    load_families(problem.sweep.families, problem.file.parent)
    model = Registry(problem, open_workspace(problem.file)).load(spec["version"], spec["digests"])
    sample = pd.read_parquet(folder / "sample.parquet")
    output = model_output(model, sample, contract)
    alone = np.concatenate(
        [model_output(model, sample.iloc[[i]], contract) for i in range(0, len(sample), 40)]
    )
    same = float(np.abs(alone - output[::40]).max())
    first = output if output.ndim == 1 else output[:, 0]
    equal = float(pd.Series(first).value_counts(normalize=True).iloc[0])
    guards = [
        Guard(
            "loads in a fresh process, digests equal",
            True,
            f"{len(spec['digests'])} files",
            "all equal",
        ),
        Guard("finite", True, f"{len(sample)} rows", "all finite"),
        Guard(
            "one row = the same row in a batch",
            same <= 1e-9,
            f"difference {same:.2g}",
            "at most 1e-9",
        ),
        Guard(
            "not constant",
            equal <= CONSTANT_SHARE,
            f"{equal:.0%} equal",
            f"at most {CONSTANT_SHARE:.0%}",
        ),
    ]
    answer = {
        "guards": [asdict(g) for g in guards],
        "fingerprint": fingerprint(output, spec["recipe"]),
    }
    (folder / "answer.json").write_text(json.dumps(answer, default=bool), encoding="utf-8")


if __name__ == "__main__":
    _in_fresh_process(Path(sys.argv[1]))
