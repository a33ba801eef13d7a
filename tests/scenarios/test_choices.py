"""What a cycle decides on: the previous champion is watched, and a gain is attributed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from automl import report
from automl.cycles.options import RunOptions
from automl.cycles.result import CycleResult
from automl.errors import AutomlError, UnreachableError
from automl.modeling.losses import BlockLoss, kind_of
from automl.modeling.recipes import Blend, Member, Recipe
from automl.problem import load_problem
from automl.promotion import guards
from automl.promotion.decide import Decision, Probation, decide
from automl.promotion.evidence import Duel
from automl.promotion.guards import check
from automl.retrain import choose, register, relearning
from automl.retrain.block_losses import first_out_of_sample
from automl.retrain.probation import doubted, previous_champion
from automl.score import cycle, score
from automl.store import Store
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF, make_world, write_problem

WEEK = timedelta(weeks=1)
REVIEW = '\n[promotion]\nmode = "review"\n'


def _promoting(rivals: Sequence[Duel], holder: str, *_: Any, **__: Any) -> Decision:
    """A rule that finds any challenger better."""
    verdicts = decide([d for d in rivals if d.challenger != holder], holder, 0.8, {}).verdicts
    best = replace(verdicts[0], passed=True, reason="")
    return Decision("promote", best.challenger, "promoted: it gains", (best, *verdicts[1:]))


def _worse(*_: Any) -> Probation:
    return Probation(
        outcome="revert", probability=0.9, worse=0.02, blocks=2, reason="the new champion is worse"
    )


def _cycle(file: Path, weeks: int, plan: str = "full") -> CycleResult:
    return cycle(
        load_problem(file), open_workspace(file), RunOptions(as_of=AS_OF + weeks * WEEK, plan=plan)
    )


def _first_cycle(folder: Path) -> Path:
    """A champion of one recipe; later cycles look at more."""
    few, many = "trials   = 2", "trials   = 5"
    file = write_problem(folder, replace={"trials   = 4": few}, frame=make_world())
    _cycle(file, -2)
    file.write_text(file.read_text(encoding="utf-8").replace(few, many), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A problem whose second cycle has promoted a challenger."""
    file = _first_cycle(tmp_path_factory.mktemp("promoted"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "decide", _promoting)
        _cycle(file, -1)
    return file


@pytest.fixture(scope="module")
def reverted(promoted: Path) -> tuple[Path, CycleResult]:
    """And whose third finds that it has turned out badly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "probation", _worse)
        return promoted, _cycle(promoted, 0)


def test_the_previous_champion_takes_its_place_back(reverted: tuple[Path, CycleResult]) -> None:
    file, result = reverted
    store = Store(open_workspace(file))
    first, second, third = reversed(store.releases("parcels"))

    assert result.reason == "reverted: the new champion is worse"
    assert third.blend.id == first.blend.id != second.blend.id
    assert third.labels_until == first.labels_until, "it was not chosen again"
    entry = store.ledger("parcels")[-1]
    assert (entry.kind, entry.from_version, entry.to_version) == ("revert", 2, 3)
    assert entry.blend_id == second.blend.id
    with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
        assert database.execute("select distinct model_version from parcels").fetchall() == [(3,)]
    uri = f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}"
    run = mlflow.MlflowClient(uri, registry_uri=uri).get_run(third.run_id)
    assert run.data.tags["decision"] == "reverted"


def test_a_blend_that_failed_its_probation_is_doubted_and_no_champion_is_watched(
    reverted: tuple[Path, CycleResult],
) -> None:
    file, _ = reverted
    store, problem = Store(open_workspace(file)), load_problem(file)
    reverted_blend = store.releases("parcels")[1].blend

    assert doubted(store, "parcels", AS_OF + WEEK, [reverted_blend]) == {reverted_blend.id}
    assert previous_champion(store, problem, AS_OF + WEEK) is None


def test_the_previous_champion_is_scored_on_the_blocks_since_the_promotion(
    reverted: tuple[Path, CycleResult],
) -> None:
    file, _ = reverted
    store = Store(open_workspace(file))
    first, second = store.releases("parcels")[2], store.releases("parcels")[1]

    losses = [e for e in store.evidence("parcels") if e.cycle == AS_OF]
    newest = max(e.start for e in losses)
    kinds = {e.blend: e.kind for e in losses if e.start == newest}

    assert kinds[first.blend.id] == kinds[second.blend.id] == "out_of_sample"


def test_a_promotion_is_watched_for_three_cycles(promoted: Path) -> None:
    store, problem = Store(open_workspace(promoted)), load_problem(promoted)
    first = store.releases("parcels")[-1]
    entries = [e for e in store.ledger("parcels") if e.as_of < AS_OF]

    class Later:
        """The store as it is after so many refits."""

        def __init__(self, refits: int) -> None:
            self.rows = [
                *entries,
                *(
                    replace(entries[-1], kind="refit", as_of=AS_OF + i * WEEK, id=90 + i)
                    for i in range(refits)
                ),
            ]

        def ledger(self, _: str) -> list[Any]:
            return self.rows

        def releases(self, _: str) -> list[Any]:
            return store.releases("parcels")

    watched = [previous_champion(Later(n), problem, AS_OF + n * WEEK) for n in range(4)]  # type: ignore[arg-type]

    assert [w.blend.id if w else None for w in watched] == [*[first.blend.id] * 3, None]
    assert watched[0] is not None
    assert watched[0].since == problem.mature(AS_OF - WEEK)


@pytest.mark.slow
def test_in_review_mode_the_previous_champion_awaits_approval(tmp_path: Path) -> None:
    file = _first_cycle(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "decide", _promoting)
        _cycle(file, -1)
    file.write_text(file.read_text(encoding="utf-8") + REVIEW, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "probation", _worse)
        _cycle(file, 0)

    store = Store(open_workspace(file))
    third, second, first = store.releases("parcels")
    waiting = store.waiting("parcels")

    assert third.blend.id == second.blend.id
    assert waiting is not None
    assert waiting.blend.id == first.blend.id
    assert waiting.model_version == 4


def test_a_gain_is_split_into_fresh_data_and_new_recipe(reverted: tuple[Path, CycleResult]) -> None:
    file, _ = reverted
    document = report.why(load_problem(file), open_workspace(file), AS_OF)
    gain = document["attribution"]
    block = max(b["block"] for b in document["blocks"])
    with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
        published = pd.read_sql("select * from parcels_history", database, parse_dates=["sent_at"])
    with sqlite3.connect(file.parent / "world.db") as database:
        rows = pd.read_sql("select * from parcels", database, parse_dates=["sent_at"])
    rows = rows[
        (rows["sent_at"] >= block) & (rows["sent_at"] < f"{AS_OF - timedelta(days=1):%Y-%m-%d}")
    ]
    seen = published.sort_values("generation").drop_duplicates("parcel", keep="last")
    seen = rows[["parcel", "late"]].merge(seen[seen["as_of"] < f"{AS_OF:%Y-%m-%d}"], on="parcel")

    assert gain["rows"] == len(seen) > 30
    assert gain["published"] == pytest.approx(1 - roc_auc_score(seen["late"], seen["probability"]))
    assert gain["fresh"] + gain["recipe"] == pytest.approx(
        1 - gain["challenger"] / gain["published"]
    )
    assert f"{gain['rows']} published rows" in gain["text"]
    assert json.dumps(document)


def test_a_search_that_adds_no_recipe_is_the_reason(tmp_path: Path) -> None:
    file = write_problem(tmp_path, frame=make_world())
    _cycle(file, -2)

    assert _cycle(file, -1).reason == "kept: the search found no recipe that adds to those in place"


def test_a_challenger_that_fails_a_guard_does_not_wait_and_a_lost_server_is_no_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _first_cycle(tmp_path)
    file.write_text(file.read_text(encoding="utf-8") + REVIEW, encoding="utf-8")
    store = Store(open_workspace(file))
    champion = store.champion("parcels")
    errors = [UnreachableError("MLflow is gone"), AutomlError("too slow", code=guards.REFUSED)]
    examined: list[int] = []

    def examine(problem: Any, version: int, *args: Any, **kwargs: Any) -> Any:
        examined.append(version)
        if len(examined) % 2 == 0:  # the champion's refit first, then the challenger
            raise errors[len(examined) // 2 - 1]
        return guards.check_model(problem, version, *args, **kwargs)

    monkeypatch.setattr(choose, "decide", _promoting)
    monkeypatch.setattr(register, "check_model", examine)
    with pytest.raises(UnreachableError, match="MLflow is gone"):
        _cycle(file, -1)
    assert store.champion("parcels") == champion

    result = _cycle(file, -1)

    assert "but it does not wait: too slow" in result.reason
    assert store.waiting("parcels") is None
    assert store.ledger("parcels")[-1].kind == "refit"


def test_a_refit_that_fails_a_guard_is_not_released_and_the_champion_can_go_on_scoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_problem(tmp_path, replace={"trials   = 4": "trials   = 2"}, frame=make_world())
    _cycle(file, -2)
    store, problem = Store(open_workspace(file)), load_problem(file)
    champion, live = store.champion("parcels"), store.live(problem.table)
    assert champion is not None
    assert live is not None
    huge = guards.Guard("size", False, "900 MB", "below 500 MB")
    monkeypatch.setattr(check, "size", lambda _: huge)

    with pytest.raises(AutomlError, match="guards: size: found 900 MB, wanted below") as caught:
        _cycle(file, -1)

    assert store.champion("parcels") == champion
    after = store.live(problem.table)
    assert after is not None
    assert after.id == live.id
    assert caught.value.code == guards.REFUSED
    assert "automl score problem.toml" in str(caught.value.next_step)
    result = score(problem, open_workspace(file), RunOptions(as_of=AS_OF - WEEK))
    assert (result.status, result.model_version) == ("published", champion.model_version)


def test_the_first_out_of_sample_loss_of_a_blend_on_a_block_is_kept(
    reverted: tuple[Path, CycleResult],
) -> None:
    file, _ = reverted
    evidence = Store(open_workspace(file)).evidence("parcels")
    first: dict[tuple[str, Any, Any], float] = {}
    again = 0
    for loss in evidence:  # oldest cycle first
        where = loss.blend, loss.start, loss.end
        if where in first:
            assert (loss.kind, loss.loss) == ("out_of_sample", first[where])
            again += 1
        elif loss.kind == "out_of_sample":
            first[where] = loss.loss
    assert first
    assert again, "a block is evaluated again by the next cycle"


def test_of_several_out_of_sample_losses_the_oldest_is_the_first() -> None:
    loss = BlockLoss(
        cycle=AS_OF,
        blend="a",
        start=AS_OF - WEEK,
        end=AS_OF,
        rows=200,
        loss=0.3,
        baseline_loss=1.0,
        kind="out_of_sample",
    )
    later = replace(loss, cycle=AS_OF + WEEK, loss=0.2)
    before = replace(loss, cycle=AS_OF - WEEK, loss=0.1, kind="in_sample")
    found = first_out_of_sample([before, loss, later])
    assert found == {("a", AS_OF - WEEK, AS_OF): loss}


@pytest.mark.parametrize(
    ("fixed_on", "weights", "until"),
    [
        (AS_OF - WEEK, (0.5, 0.5), AS_OF),  # weights learned on the newest block: in-sample on it
        (AS_OF - WEEK, (0.6, 0.4), AS_OF - WEEK),  # nothing was learned
        (AS_OF, (0.5, 0.5), AS_OF),  # chosen by this very cycle
    ],
)
def test_relearned_weights_move_the_end_of_the_labels_that_a_blend_was_fixed_on(
    monkeypatch: pytest.MonkeyPatch,
    fixed_on: datetime,
    weights: tuple[float, float],
    until: datetime,
) -> None:
    recipes = [Recipe("linear", {"C": c}) for c in (0.5, 1.0)]
    blend = Blend((Member(recipes[0], 0.6, {}), Member(recipes[1], 0.4, {})))
    learned = Blend(
        tuple(replace(m, weight=w) for m, w in zip(blend.members, weights, strict=True))
    )
    monkeypatch.setattr(relearning, "reweighed", lambda *_: learned)
    work = SimpleNamespace(blocks=[SimpleNamespace(end=AS_OF)])
    leaderboard = SimpleNamespace(trials=())
    found, moved = relearning.relearned(work, leaderboard, blend, fixed_on)  # type: ignore[arg-type]
    assert moved == until
    assert found == (blend if fixed_on == AS_OF else learned)
    assert kind_of(moved, AS_OF) == "out_of_sample"
    assert kind_of(moved, AS_OF - WEEK) == ("in_sample" if until == AS_OF else "out_of_sample")
