"""Review mode: a better challenger waits for a person, and approval or rejection takes effect as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest

from automl.cycles.options import RunOptions
from automl.errors import ProblemError
from automl.modeling.recipes import Blend, Recipe
from automl.promotion.decide import Decision, decide
from automl.promotion.evidence import Duel
from automl.retrain import choose as pending
from automl.retrain import retrain
from automl.retrain.probation import previous_champion
from automl.review import approve, approve_if_tagged, reject
from automl.store import Store, releases
from tests.support.parcels import AS_OF
from tests.support.workspaces import file as file  # a fixture
from tests.support.workspaces import let_wait, opened, standing, type_command, without_standby


def _promoting(rivals: Sequence[Duel], holder: str, *_: Any, **__: Any) -> Decision:
    """A rule that finds any challenger better."""
    verdicts = decide([d for d in rivals if d.challenger != holder], holder, 0.8, {}).verdicts
    best = replace(verdicts[0], passed=True, reason="")
    return Decision("promote", best.challenger, "promoted: it gains", (best, *verdicts[1:]))


def test_in_review_mode_the_champion_is_refit_and_a_better_challenger_waits(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = file.read_text(encoding="utf-8").replace("trials   = 2", "trials   = 5")
    file.write_text(text + '\n[promotion]\nmode = "review"\n', encoding="utf-8")
    problem, workspace, store = opened(file)
    before = standing(file)
    champion_before = store.champion("parcels")
    assert champion_before is not None
    monkeypatch.setattr(pending, "decide", _promoting)
    shadow = Blend.single(Recipe("linear", {"C": 0.5, "alpha": 1.0}, 3))
    with store.writer.begin() as connection:
        releases.replace_shadows(connection, "parcels", [(shadow, champion_before.labels_until)])

    result = retrain(problem, workspace, RunOptions(as_of=AS_OF + timedelta(days=3), plan="full"))

    assert result.warnings == []
    assert result.reason.startswith("kept; ")
    waiting, champion = store.waiting("parcels"), store.champion("parcels")
    assert waiting is not None
    assert champion is not None
    assert (champion.model_version, waiting.model_version) == (3, 4)
    assert champion.blend.id == champion_before.blend.id != waiting.blend.id
    assert _challenger(file) == 4
    assert waiting.expires_at - waiting.waits_since == timedelta(days=14)
    assert waiting.losses["model"] < waiting.losses["baseline"]
    assert store.decisions("parcels")[0].outcome == "wait"
    assert waiting.blend.id in {b.id for b, _ in store.shadows("parcels")}, "and is scored again"
    after = standing(file)
    assert after["ledger"][len(before["ledger"]) :] == [("refit", 2, 3), ("wait", None, 4)]
    assert after["live"] == before["live"]
    done = approve(problem, workspace, "yes")
    assert (done.model_version, store.champion("parcels").blend) == (4, waiting.blend)  # type: ignore[union-attr]
    assert [v for _, v, _ in standing(file)["live"]] == [4]
    assert _challenger(file) is None
    watched = previous_champion(store, problem, AS_OF + timedelta(days=4))
    assert watched is not None
    assert watched.blend == champion.blend, (
        "the approved champion is on probation, compared with the previous one"
    )


def _challenger(file: Path) -> int | None:
    """Whom MLflow's alias names."""
    uri = f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}"
    aliases = mlflow.MlflowClient(uri, registry_uri=uri).get_registered_model("parcels").aliases
    return int(aliases["challenger"]) if "challenger" in aliases else None


def in_review(file: Path) -> tuple[Any, Any, Store]:
    """Problem, workspace and store of the file, from now on in review mode."""
    text = file.read_text(encoding="utf-8")
    file.write_text(text + '\n[promotion]\nmode = "review"\n', encoding="utf-8")
    return opened(file)


def test_a_challenger_that_a_search_does_not_find_better_again_waits_no_longer(file: Path) -> None:
    problem, workspace, store = in_review(file)
    blend = let_wait(file)

    retrain(problem, workspace, RunOptions(as_of=AS_OF + timedelta(days=3), plan="warm"))

    assert store.waiting("parcels") is None
    entry = store.ledger("parcels")[-1]
    assert (entry.kind, entry.blend_id, entry.to_version) == ("expire", blend.id, 1)
    assert "did not find it better again" in entry.reason
    assert _challenger(file) is None


def test_a_mere_refit_deletes_neither_the_waiting_challenger_nor_shadows(file: Path) -> None:
    problem, workspace, store = in_review(file)
    blend = let_wait(file)
    shadow = Blend.single(Recipe("linear", {"C": 0.25, "alpha": 1.0}, 3))
    with store.writer.begin() as connection:
        releases.replace_shadows(connection, "parcels", [(shadow, AS_OF - timedelta(days=30))])

    retrain(problem, workspace, RunOptions(as_of=AS_OF + timedelta(days=3), plan="refit"))

    waiting = store.waiting("parcels")
    assert waiting is not None
    assert (waiting.blend.id, waiting.model_version) == (blend.id, 1)
    assert store.shadows("parcels") == [(shadow, AS_OF - timedelta(days=30))]
    assert store.ledger("parcels")[-1].kind == "refit"
    assert _challenger(file) == 1


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("checked with Kim", "checked with Kim"),
        pytest.param("true", "tag approved", marks=pytest.mark.slow),
    ],
)
def test_a_tag_in_mlflow_approves_before_the_next_command(
    file: Path, tag: str, reason: str
) -> None:
    let_wait(file)
    uri = f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    client.set_model_version_tag("parcels", "1", "approved", tag)

    done = type_command(file, "score", "--as-of", f"{AS_OF:%Y-%m-%d}")

    assert done.returncode == 0, done.stderr
    assert "version 1 was approved by a tag in MLflow" in done.stderr
    _, _, store = opened(file)
    entry = store.ledger("parcels")[-1]
    assert (entry.kind, entry.actor, entry.reason) == ("approve", "a tag in MLflow", reason)
    assert [v for _, v, _ in standing(file)["live"]] == [1]


@pytest.mark.parametrize("tag", ["no", "false", None])
def test_a_tag_that_says_no_and_no_tag_approve_nobody(file: Path, tag: str | None) -> None:
    problem, workspace, store = opened(file)
    assert approve_if_tagged(problem, workspace) is None, "no challenger waits"
    let_wait(file)
    if tag is not None:
        uri = f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}"
        client = mlflow.MlflowClient(uri, registry_uri=uri)
        client.set_model_version_tag("parcels", "1", "approved", tag)

    assert approve_if_tagged(problem, workspace) is None
    assert store.waiting("parcels") is not None


def test_an_approved_version_is_released_and_seen(file: Path) -> None:
    problem, workspace, store = opened(file)
    without_standby(file)
    blend = let_wait(file)

    done = approve(problem, workspace, "looks right", version=1, actor="ann")

    after = standing(file)
    assert (done.status, done.model_version, done.warnings) == ("approved", 1, [])
    assert [v for _, v, _ in after["live"]] == [1] == [after["champion"]]
    assert after["ledger"][-1] == ("approve", 2, 1)
    assert (after["waiting"], after["running"]) == ([], 0)
    champion = store.champion("parcels")
    assert champion is not None
    assert champion.blend == blend
    assert champion.fingerprint
    assert approve(problem, workspace, "looks right").already
    with pytest.raises(ProblemError, match="no challenger awaits approval"):
        approve(problem, workspace, "another one")
    assert standing(file) == after


def test_a_rejected_challenger_waits_no_more_and_nothing_else_changes(file: Path) -> None:
    problem, workspace, store = opened(file)
    before = standing(file)
    blend = let_wait(file)
    with pytest.raises(ProblemError, match="version 7 does not await approval; found version 1"):
        reject(problem, workspace, "no", version=7)

    done = reject(problem, workspace, "no", actor="ann")

    after = standing(file)
    assert (done.status, done.model_version) == ("rejected", 2)
    assert after["ledger"] == [*before["ledger"], ("wait", None, None), ("reject", None, None)]
    assert {k: v for k, v in after.items() if k != "ledger"} == {
        k: v for k, v in before.items() if k != "ledger"
    }
    assert store.ledger("parcels")[-1].blend_id == blend.id
    assert reject(problem, workspace, "no").already


def test_old_evidence_cannot_be_approved(file: Path) -> None:
    problem, workspace, _ = opened(file)
    let_wait(file, days=-1)

    with pytest.raises(ProblemError, match="its evidence is old"):
        approve(problem, workspace, "late")
