"""Results as plain documents, from the store alone: what `--json` prints and tables show."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from automl.cycles.missed import ahead_of, missed_slots
from automl.cycles.result import CycleResult
from automl.errors import ProblemError
from automl.modeling.losses import DISCOUNT
from automl.modeling.recipes import Recipe
from automl.problem import HIGHER_IS_BETTER, Problem, in_sql
from automl.report.monitoring import monitoring_state
from automl.report.regret_table import regrets
from automl.store import Cycle, Entry, Generation, Release, Store, ledger, naive
from automl.workspace import Workspace, day_of, now

# what `why` says of a champion that was kept: there is no row that the refit has not seen
REFIT = (
    "the same recipes, fitted on newer rows too; what this alone gains is not known, because no labelled block "
    "is newer than the rows of the refit"
)
UNKNOWN = "score"  # of a cycle of an earlier version whose problem file has changed since
__all__ = ["champion", "leaderboard", "result", "status", "trained_in", "why"]


def result(ended: CycleResult, workspace: Workspace) -> dict[str, Any]:
    """The result of a command."""
    problem = ended.problem
    document: dict[str, Any] = {
        "problem": problem.name,
        "as_of": day_of(ended.as_of),
        "status": ended.status,
        "already": ended.already,
        "reason": ended.reason,
        "model_version": ended.model_version,
        "generation": ended.generation,
        "rows": ended.rows,
        "run_id": ended.run_id,
        "warnings": ended.warnings,
        "predictions": _places(problem, workspace, ended.generation) if ended.generation else None,
    }
    if ended.leaderboard is not None:
        document["leaderboard"] = leaderboard(problem, workspace, ended.as_of)
        document["turned_out"] = status(problem, workspace)["turned_out"]
    return document


def leaderboard(problem: Problem, workspace: Workspace, as_of: datetime | None) -> dict[str, Any]:
    """Trials of a cycle, best first; trials scored on fewer blocks rank below, whatever their score."""
    store, cycle, later = _cycle(problem, workspace, as_of)
    metric, also = _metrics(problem, cycle)
    higher = metric in HIGHER_IS_BETTER
    trials = [
        {
            "family": t["recipe"]["family"],
            "state": t["status"],
            "score": _mean(t["scores"]),
            "loss": _mean(t["losses"]) or 0.0,
            "also": t["also"],
            "blocks": len(t["scores"]),
            "fit_seconds": t["seconds_fit"],
            "source": t["source"],
            "half_life": t["recipe"]["half_life"],
            "recent": t["recipe"].get("recent", 0.0),
            "trend": t["recipe"].get("trend", False),
            "params": {**t["recipe"]["params"], **t["learned"]},
            "reason": t["reason"],
            "recipe": Recipe.from_json(t["recipe"]).id,
            "number": t["number"],
        }
        for t in store.trials(cycle)
    ]
    order = {"complete": 0, "pruned": 1, "failed": 2}
    trials.sort(
        key=lambda t: (
            order[t["state"]],
            -t["blocks"],  # scores of fewer blocks are not comparable
            t["loss"] if metric == UNKNOWN else -(t["score"] or 0) if higher else t["score"] or 0,
            t["number"],
        )
    )
    for trial in trials:
        del trial["loss"]
    decided = next((d.id for d in store.decisions(problem.name) if d.as_of == cycle.as_of), None)
    releases = store.releases(problem.name)  # a rollback has the as_of of the version it replaced
    release = next((r for r in releases if r.decision_id == decided), None) if decided else None
    chosen = {m.recipe.id: m.weight for m in release.blend.members} if release else {}
    for rank, trial in enumerate(trials, 1):
        trial["rank"], trial["weight"] = rank, chosen.get(trial["recipe"])
    return {
        "problem": problem.name,
        "as_of": day_of(cycle.as_of),
        "metric": metric,
        "better": "" if metric == UNKNOWN else "higher" if higher else "lower",
        "also": also,
        "blocks": max((t["blocks"] for t in trials), default=0),
        "trials": trials,
        "later": later,
    }


def why(problem: Problem, workspace: Workspace, as_of: datetime | None) -> dict[str, Any]:
    """The decision of a cycle, with every verdict and block."""
    store, cycle, later = _cycle(problem, workspace, as_of)
    found = [d for d in store.decisions(problem.name) if d.as_of == cycle.as_of]
    document: dict[str, Any] = {
        "problem": problem.name,
        "as_of": day_of(cycle.as_of),
        "status": cycle.status,
        "reason": cycle.reason,
        "metric": _metrics(problem, cycle)[0],
        "policy": cycle.receipts.get("policy"),
        "plan": _plan(cycle),
        "cost": _cost(cycle),
        "later": later,
    }
    if found:
        decided = found[0]
        document |= {
            "outcome": decided.outcome,
            "attempt": decided.attempt,
            "decided_at": naive(decided.decided_at).isoformat(),
            **decided.content,
        }
        document["regret"] = next(iter(regrets(problem, workspace, cycle.as_of)), None)
        document["refit"] = REFIT if decided.outcome == "keep" else None
    rows = store.ledger(problem.name)
    document["ledger"] = [_entry(e) for e in rows if e.as_of == cycle.as_of]
    document["monitoring"] = monitoring_state(store, problem)
    return document


def champion(problem: Problem, workspace: Workspace, at: datetime | None) -> dict[str, Any]:
    """The champion at a wall-clock time: since when, why, and by which user or schedule."""
    store, moment = Store(workspace), at or now()
    rows = store.ledger(problem.name)
    entry = ledger.champion_entry(rows, moment)
    document: dict[str, Any] = {
        "problem": problem.name,
        "at": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        "champion": None,
        "live": None,
        "waiting": None,
    }
    if entry is None:
        first = min((e.at for e in rows), default=None)
        return document | {"first": f"{first:%Y-%m-%dT%H:%M:%SZ}" if first else None}
    released = next(
        r
        for r in store.releases(problem.name, limit=100_000)
        if r.model_version == entry.to_version
    )
    document["champion"] = _champion(released) | _entry(entry)
    seen = store.seen(problem.name, moment)
    document["live"] = _generation(seen) if seen else None
    document["waiting"] = _waiting(store, problem) if at is None else None
    return document


def _waiting(store: Store, problem: Problem) -> dict[str, Any] | None:
    challenger = store.waiting(problem.name)
    if challenger is None:
        return None
    return {
        "version": challenger.model_version,
        "blend_id": challenger.blend.id,
        "blend": str(challenger.blend),
        "as_of": day_of(challenger.as_of),
        "reason": challenger.reason,
        "expires": f"{challenger.expires_at:%Y-%m-%d %H:%M}",
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "since": f"{entry.at:%Y-%m-%dT%H:%M:%S.%fZ}",
        "as_of": day_of(entry.as_of),
        "kind": entry.kind,
        "actor": entry.actor,
        "reason": entry.reason,
        "from_version": entry.from_version,
        "to_version": entry.to_version,
        "blend_id": entry.blend_id or None,
    }


def _plan(cycle: Cycle) -> dict[str, Any] | None:
    """How much the cycle searched, and why; None before it was planned."""
    plan = cycle.receipts.get("plan")
    return {"kind": plan["kind"], "reason": plan["reason"]} if plan else None


def _cost(cycle: Cycle) -> dict[str, Any] | None:
    """Seconds of a cycle's sweep and refit by purpose, wall clock, and logging as a share of the sweep."""
    cost, wall = cycle.receipts.get("cost"), {"wall_seconds": cycle.seconds}
    if cycle.status == "skipped":
        return {"core_seconds": 0.0, **wall}
    if cost is None:
        return None
    logging = float(cycle.receipts.get("logging_seconds") or 0.0)
    share = round(logging / max(1e-9, cost["sweep_seconds"]), 4)
    return {**cost, **wall, "logging_share": share}


def status(problem: Problem, workspace: Workspace) -> dict[str, Any]:
    """Champion, live generation, realised performance, recent cycles."""
    store = Store(workspace)
    champion, live = store.champion(problem.name), store.live(problem.table)
    ahead = ahead_of(store, problem, now())
    return {
        "problem": problem.name,
        "file": problem.file.name,
        "metric": problem.metric.name,
        "champion": _champion(champion) if champion else None,
        "live": _generation(live) | _places(problem, workspace) if live else None,
        "waiting": _waiting(store, problem),
        "missed": [day_of(slot) for slot in missed_slots(store, problem, now())],
        "ahead": day_of(ahead) if ahead else None,
        "unscored": bool(champion and live and live.model_version != champion.model_version),
        "monitoring": monitoring_state(store, problem),
        "turned_out": [
            {**_generation(g), "labelled_rows": g.labelled_rows, "scores": dict(g.realised)}
            for g in store.generations(problem.name, limit=6)
            if g.labelled_rows
        ],
        "cycles": [
            {
                "as_of": day_of(c.as_of),
                "verb": c.verb,
                "attempt": c.attempt,
                "status": c.status,
                "reason": c.reason,
            }
            for c in store.cycles(problem.name, limit=8)
        ],
    }


def _metrics(problem: Problem, cycle: Cycle) -> tuple[str, list[str]]:
    """Metrics that the trials of a cycle were scored with: metric.name may have changed since."""
    recorded = cycle.receipts.get("metrics")
    if recorded:
        return recorded[0], recorded[1:]
    if cycle.problem_digest == problem.digest:
        return problem.metric.name, list(problem.metric.also)
    return UNKNOWN, []


def _cycle(
    problem: Problem, workspace: Workspace, as_of: datetime | None
) -> tuple[Store, Cycle, dict[str, Any] | None]:
    """The cycle of `as_of`, by default the newest that trained, and a later one that did not, if there is one."""
    store = Store(workspace)
    cycles = [c for c in store.cycles(problem.name, limit=200) if c.verb == "retrain"]
    chosen = [c for c in cycles if as_of is None or c.as_of == as_of]
    if not chosen:
        known = ", ".join(list(dict.fromkeys(day_of(c.as_of) for c in cycles))[:5]) or "none"
        raise ProblemError(
            f"{problem.name}: no retraining cycle {'yet' if as_of is None else f'as of {day_of(as_of)}'}; found {known}",
            code="no_cycle",
            next_step=f"automl cycle {problem.file.name}",
        )
    shown = chosen[0]
    if as_of is None:
        shown = next((c for c in chosen if trained_in(store, c)), shown)
    if as_of is not None or shown.id == chosen[0].id:
        return store, shown, None
    newest = chosen[0]
    return (
        store,
        shown,
        {"as_of": day_of(newest.as_of), "status": newest.status, "reason": newest.reason},
    )


def trained_in(store: Store, cycle: Cycle) -> bool:
    """Whether a retraining came as far as to train."""
    if cycle.status == "skipped":
        return False
    return cycle.ended or cycle.status == "dry-run" or bool(store.trials(cycle))


def _champion(release: Release) -> dict[str, Any]:
    return {
        "model_version": release.model_version,
        "as_of": day_of(release.as_of),
        "blend": str(release.blend),
        "run_id": release.run_id,
        "fingerprint": release.fingerprint,
    }


def _generation(generation: Generation) -> dict[str, Any]:
    return {
        "generation": generation.id,
        "as_of": day_of(generation.as_of),
        "until": day_of(generation.until),
        "rows": generation.rows,
        "model_version": generation.model_version,
    }


def _places(
    problem: Problem, workspace: Workspace, generation: int | None = None
) -> dict[str, str | None]:
    """Where to read predictions: the live ones, or those of a generation that is not live."""
    live = Store(workspace).live(problem.table) if generation else None
    past = live is not None and live.id != generation
    table = in_sql(problem.table)
    shown = f"{problem.table}_history where generation = {generation}" if past else table
    database = workspace.home / "automl.db"
    where = f"sqlite3 {database} " if workspace.database_url.startswith("sqlite") else ""
    parquet = workspace.resolve(problem.publish.parquet) if problem.publish.parquet else None
    return {
        "sql": f"{where}'select * from {shown}'",  # noqa: S608  for people to copy
        "parquet": str(parquet) if parquet and not past else None,
    }


def _mean(scores: Sequence[float]) -> float | None:
    if not scores:
        return None
    weights = [DISCOUNT**i for i in range(len(scores))]
    return sum(w * s for w, s in zip(weights, scores, strict=True)) / sum(weights)
