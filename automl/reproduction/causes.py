"""What a past cycle was made of, compared with what is there now: data, files, libraries, code, decision."""

from __future__ import annotations

import json
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from automl import history
from automl.errors import HistoryError
from automl.history.contract import contract_file
from automl.modeling.features import carried
from automl.promotion.evidence import duels
from automl.promotion.rule import Rule, decide_by
from automl.promotion.trial_losses import losses_of_stored
from automl.reproduction.past import PastCycle
from automl.reproduction.values import Check
from automl.retrain.training_data import kept_snapshot

__all__ = ["TOLERANCE", "code", "contract", "data", "decision", "libraries", "problem_file"]

TOLERANCE = 1e-9  # of numbers that are computed again
COMPARED = ("numpy", "scipy", "pandas", "scikit-learn", "lightgbm", "catboost", "xgboost", "skops")


def data(past: PastCycle) -> Check:
    """Whether the snapshot is there, and its rows are those of its digest."""
    receipt = past.cycle.receipts.get("snapshot")
    if not receipt:
        return Check("data", None, "the cycle recorded no snapshot")
    snapshot = kept_snapshot(receipt)
    name = snapshot.digest[:12]
    try:
        intact = history.verified(snapshot)
    except (HistoryError, OSError):
        text = (
            f"snapshot {name} was cleaned; its manifest and parts in {snapshot.path.parent.parent} would have been "
            "needed: restore them from a backup"
        )
        return Check("data", None, text)
    if not intact:
        return Check("data", False, f"the rows of snapshot {name} are not those of its digest")
    return Check("data", True, f"snapshot {name}, {snapshot.rows} rows")


def problem_file(past: PastCycle) -> Check:
    """Whether the problem file is the one of the cycle."""
    same = past.cycle.problem_digest == past.problem.digest
    known = past.cycle.receipts.get("maturity")
    if known and not same:  # the estimated delay is not in the file
        return Check("problem file", None, "its label delay was estimated")
    text = "unchanged" if same else f"{past.problem.file.name} has changed since"
    return Check("problem file", same, text)


def contract(past: PastCycle) -> Check:
    """Whether the contract file is the one of the cycle."""
    then = past.registry.recorded(past.release.run_id, "data/contract.json")
    if then is None:
        return Check("contract", None, "the run of the cycle is gone from MLflow")
    now = contract_file(past.problem).read_text(encoding="utf-8")
    same = json.loads(then) == json.loads(now)
    return Check("contract", same, "unchanged" if same else "the contract file has changed since")


def libraries(past: PastCycle) -> Check:
    """Whether the libraries that fit models have the versions of the cycle."""
    then = past.registry.recorded(past.release.run_id, "env/requirements.txt")
    if then is None:
        return Check("libraries", None, "the run of the cycle is gone from MLflow")
    lines = (line.partition("==") for line in then.splitlines())
    versions = {name.lower(): number for name, _, number in lines}
    changed = [
        f"{name} was {versions[name]}, is {found}"
        for name in COMPARED
        if name in versions and (found := _installed(name)) != versions[name]
    ]
    return Check("libraries", not changed, "; ".join(changed) or "same versions")


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def code(past: PastCycle) -> Check:
    """Compare the code that travels with the model, ours and the user's."""
    present = {f"{f.module}.py": f.path for f in past.families.values()}
    present[f"{carried.__name__.rpartition('.')[2]}.py"] = Path(str(carried.__file__))
    if past.columns:
        present[f"{past.columns.module}.py"] = past.columns.path
    missing = [n for n in past.release.blend.families if n not in past.families]
    if missing:
        return Check("code", False, f"family {', '.join(missing)} cannot be loaded any more")
    changed = [
        Path(name).name
        for name, digest in past.release.digests.items()
        if Path(name).name in present
        and sha256(present[Path(name).name].read_bytes()).hexdigest() != digest
    ]
    text = f"{', '.join(changed)} changed since" if changed else "unchanged, as far as it is kept"
    return Check("code", not changed, text)


def decision(past: PastCycle) -> Check:
    """Make the decision again on the recorded losses, and compare the gain of every challenger."""
    content = past.decision.content
    if "rule" not in content:
        return Check("decision", None, "an earlier version recorded it without its settings")
    rule, name = Rule.from_json(content["rule"]), past.problem.name
    evidence = [
        e
        for e in past.store.evidence(name)
        if e.cycle <= past.cycle.as_of and e.metric in ("", past.problem.metric.name)
    ]
    own = [e for e in evidence if e.cycle == past.cycle.as_of]
    tried = losses_of_stored(past.store.trials(past.cycle), own)
    verdicts = decide_by(rule, duels([*evidence, *tried], rule.holder)).verdicts
    then = {v["challenger"]: v for v in content.get("verdicts", ())}
    for verdict in verdicts:
        recorded = then.pop(verdict.challenger, {}).get("shrunk")
        if recorded is None or abs(recorded - verdict.shrunk) > TOLERANCE:
            text = f"challenger {verdict.challenger} gains {verdict.shrunk:+.2%}, was {recorded}"
            return Check("decision", False, text)
    if then:
        return Check("decision", False, f"challenger {next(iter(then))} has no evidence any more")
    return Check("decision", True, f"{past.decision.outcome}, {len(verdicts)} verdicts again")
