"""The store's rows as plain documents: what `--json` prints."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from automl.cycles.missed import ahead_of, missed_slots
from automl.cycles.options import RunOptions, default_as_of
from automl.cycles.result import CycleResult, ended_result
from automl.errors import ProblemError
from automl.modeling.families import Family, load_family
from automl.modeling.losses import DISCOUNT
from automl.modeling.recipes import Recipe
from automl.problem import HIGHER_IS_BETTER, METRICS, Problem, Slots, family_names
from automl.store import UNSCORED, Cycle, Entry, Generation, Release, Store, ledger, naive
from automl.workspace import Workspace, now


def finished(
    problem: Problem, workspace: Workspace, verb: str, options: RunOptions
) -> CycleResult | None:
    """How that cycle has ended already, or None if there is work to do; answers in well under a second."""
    if options.again or (
        not (workspace.home / "automl.db").exists() and workspace.database_url.startswith("sqlite")
    ):
        return None
    store = Store(workspace)
    as_of = options.as_of or default_as_of(problem, verb, now())
    found = store.find_cycle(problem.name, "score" if verb == "score" else "retrain", as_of)
    champion, live = store.champion(problem.name), store.live(problem.table)
    lagging = (champion and not champion.projected) or (
        live and problem.publish.parquet and live.exported_at is None
    )
    if (
        found is None
        or not found.ended
        or lagging
        or (verb == "cycle" and found.status in UNSCORED)
    ):
        return None
    return ended_result(store, problem, found)


def result(done: CycleResult, workspace: Workspace) -> dict[str, Any]:
    """The document of a command that ran a story."""
    problem = done.problem
    document: dict[str, Any] = {
        "problem": problem.name,
        "as_of": _iso(done.as_of),
        "status": done.status,
        "already": done.already,
        "reason": done.reason,
        "model_version": done.model_version,
        "generation": done.generation,
        "rows": done.rows,
        "run_id": done.run_id,
        "warnings": done.warnings,
        "predictions": _places(problem, workspace, done.generation) if done.generation else None,
    }
    if done.leaderboard is not None:
        document["leaderboard"] = leaderboard(problem, workspace, done.as_of)
        document["turned_out"] = status(problem, workspace)["turned_out"]
    return document


def in_effect(problem: Problem, workspace: Workspace) -> str:
    """What is effective now, looked up: for the last line of an error message."""
    if not (workspace.home / "automl.db").exists() and workspace.database_url.startswith("sqlite"):
        return "nothing was released or published before, and nothing is now"
    store = Store(workspace)
    champion, live = store.champion(problem.name), store.live(problem.table)
    model = (
        f"champion is still version {champion.model_version}"
        if champion
        else "there is still no champion"
    )
    shown = (
        f"table {problem.table} still shows generation {live.id}, {live.rows} rows as of {live.as_of:%Y-%m-%d %H:%M}"
        if live
        else f"table {problem.table} is still unpublished"
    )
    return f"{model}; {shown}"


def leaderboard(problem: Problem, workspace: Workspace, as_of: datetime | None) -> dict[str, Any]:
    """Trials of a cycle, best first; those judged on fewer blocks stand below, whatever their score."""
    store, cycle = _cycle(problem, workspace, as_of)
    metric = problem.metric.name
    higher = metric in HIGHER_IS_BETTER
    trials = [
        {
            "family": t["recipe"]["family"],
            "state": t["status"],
            "score": _mean(t["scores"]),
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
            -t["blocks"],  # scores of fewer blocks compare with nothing else
            -(t["score"] or 0) if higher else (t["score"] or 0),
            t["number"],
        )
    )
    decided = next((d.id for d in store.decisions(problem.name) if d.as_of == cycle.as_of), None)
    releases = store.releases(problem.name)  # a rollback's stands at the as_of of who was put out
    release = next((r for r in releases if r.decision_id == decided), None) if decided else None
    chosen = {m.recipe.id: m.weight for m in release.blend.members} if release else {}
    for rank, trial in enumerate(trials, 1):
        trial["rank"], trial["weight"] = rank, chosen.get(trial["recipe"])
    return {
        "problem": problem.name,
        "as_of": _iso(cycle.as_of),
        "metric": metric,
        "better": "higher" if higher else "lower",
        "also": list(problem.metric.also),
        "blocks": max((t["blocks"] for t in trials), default=0),
        "trials": trials,
    }


def why(problem: Problem, workspace: Workspace, as_of: datetime | None) -> dict[str, Any]:
    """The decision of a cycle, with every verdict and block."""
    store, cycle = _cycle(problem, workspace, as_of)
    found = [d for d in store.decisions(problem.name) if d.as_of == cycle.as_of]
    document: dict[str, Any] = {
        "problem": problem.name,
        "as_of": _iso(cycle.as_of),
        "status": cycle.status,
        "reason": cycle.reason,
        "plan": _plan(cycle),
        "cost": _cost(cycle),
    }
    if found:
        decided = found[0]
        document |= {
            "outcome": decided.outcome,
            "attempt": decided.attempt,
            "decided_at": naive(decided.decided_at).isoformat(),
            **decided.content,
        }
    rows = store.ledger(problem.name)
    document["ledger"] = [_entry(e) for e in rows if e.as_of == cycle.as_of]
    return document


def champion(problem: Problem, workspace: Workspace, at: datetime | None) -> dict[str, Any]:
    """Which version was live at a moment of the wall clock, since when, why, and who said so."""
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
    one = store.waiting(problem.name)
    if one is None:
        return None
    return {
        "version": one.model_version,
        "blend_id": one.blend.id,
        "blend": str(one.blend),
        "as_of": _iso(one.as_of),
        "reason": one.reason,
        "expires": f"{one.expires_at:%Y-%m-%d %H:%M}",
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "since": f"{entry.at:%Y-%m-%dT%H:%M:%S.%fZ}",
        "as_of": _iso(entry.as_of),
        "kind": entry.kind,
        "actor": entry.actor,
        "reason": entry.reason,
        "from_version": entry.from_version,
        "to_version": entry.to_version,
        "blend_id": entry.blend_id or None,
    }


def _plan(cycle: Cycle) -> dict[str, Any] | None:
    """How much the cycle searched, and why; None before that was settled."""
    plan = cycle.receipts.get("plan")
    return {"kind": plan["kind"], "reason": plan["reason"]} if plan else None


def _cost(cycle: Cycle) -> dict[str, Any] | None:
    """Where the time of a cycle's sweep and refit went; logging as a share of the sweep's."""
    cost = cycle.receipts.get("cost")
    if cost is None:
        return None
    logging = float(cycle.receipts.get("logging_seconds") or 0.0)
    return {**cost, "logging_share": round(logging / max(1e-9, cost["sweep_seconds"]), 4)}


def status(problem: Problem, workspace: Workspace) -> dict[str, Any]:
    """Champion, live generation, how published predictions turned out, last cycles."""
    store = Store(workspace)
    champion, live = store.champion(problem.name), store.live(problem.table)
    ahead = ahead_of(store, problem, now())
    return {
        "problem": problem.name,
        "metric": problem.metric.name,
        "champion": _champion(champion) if champion else None,
        "live": _generation(live) | _places(problem, workspace) if live else None,
        "waiting": _waiting(store, problem),
        "missed": [_iso(slot) for slot in missed_slots(store, problem, now())],
        "ahead": _iso(ahead) if ahead else None,
        "unscored": bool(champion and live and live.model_version != champion.model_version),
        "turned_out": [
            {**_generation(g), "labelled_rows": g.labelled_rows, "scores": dict(g.realised)}
            for g in store.generations(problem.name, limit=6)
            if g.labelled_rows
        ],
        "cycles": [
            {
                "as_of": _iso(c.as_of),
                "verb": c.verb,
                "attempt": c.attempt,
                "status": c.status,
                "reason": c.reason,
            }
            for c in store.cycles(problem.name, limit=6)
        ],
    }


def checked(
    problem: Problem, workspace: Workspace, families: Mapping[str, Family]
) -> dict[str, Any]:
    """What a valid problem file says, with its defaults filled in."""
    as_of = default_as_of(problem, "retrain", now())
    return {
        "problem": problem.name,
        "task": problem.task,
        "file": str(problem.file),
        "digest": problem.digest,
        "families": {name: f.doc for name, f in families.items()},
        "metric": problem.metric.name,
        "table": problem.table,
        "horizon": str(problem.horizon),
        "as_of": _iso(as_of),
        "batch": [_iso(as_of), _iso(problem.until(as_of))],
        "workspace": str(workspace.home),
    }


def families() -> dict[str, Any]:
    """The families that ship with the product."""
    loaded = [load_family(name, Path.cwd()) for name in family_names()]
    return {
        "families": [
            {
                "name": f.name,
                "short": f.short,
                "tasks": sorted(f.tasks),
                "encoding": f.encoding,
                "start_points": len(f.start),
                "about": f.doc,
            }
            for f in loaded
        ],
        "metrics": METRICS,
    }


def schedule_text(problems: Sequence[Problem]) -> str:
    """Deployments and their next slots."""
    lines = []
    for p in problems:
        for verb, cron in deployments(p):
            slots, zone = Slots(cron, p.schedule.timezone), ZoneInfo(p.schedule.timezone)
            first = slots.after(now())
            upcoming = ", ".join(
                f"{slot.astimezone(zone):%a %Y-%m-%d %H:%M}" for slot in (first, slots.after(first))
            )
            lines.append(f"{verb}/{p.name}  {cron} {p.schedule.timezone}  next: {upcoming}")
    return "\n".join(lines)


def deployments(problem: Problem) -> list[tuple[str, str]]:
    """(flow, cron) of a problem: `cycle` when there is no schedule of its own for scoring.

    `approvals` looks for the tag that approves a challenger, beside what every command does.

    Raises
    ------
    ProblemError
        The problem has no schedule.
    """
    s = problem.schedule
    if not s.retrain and not s.score:
        raise ProblemError(
            f"{problem.file.name}: found no [schedule]; wanted schedule.retrain, schedule.score or both",
            code="no_schedule",
        )
    more = [("approvals", s.approvals)] if s.approvals else []
    if s.retrain and s.score:
        return [("retrain", s.retrain), ("score", s.score), *more]
    return [("cycle", s.retrain) if s.retrain else ("score", s.score), *more]


def ui_command(
    problem: Problem, workspace: Workspace, port: int
) -> tuple[list[str], dict[str, str], str]:
    """How to start MLflow on the workspace (empty if a server is configured), and the link to open."""
    cycles = Store(workspace).cycles(problem.name, limit=50)
    experiment = next(
        (c.receipts["experiment"] for c in cycles if "experiment" in c.receipts), None
    )
    page = (
        f"experiments/{experiment}/runs?viewStateShareKey=decisions&"
        if experiment
        else "experiments?"
    )
    base = (
        workspace.tracking_uri
        if workspace.tracking_uri.startswith("http")
        else f"http://127.0.0.1:{port}"
    )
    link = f"{base}/#/{page}workflowType=machine_learning"
    if base == workspace.tracking_uri:
        return [], {}, link
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        workspace.tracking_uri,
        "--artifacts-destination",
        workspace.artifacts.as_uri(),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    return (
        command,
        {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        link,
    )


def _cycle(problem: Problem, workspace: Workspace, as_of: datetime | None) -> tuple[Store, Cycle]:
    store = Store(workspace)
    cycles = [c for c in store.cycles(problem.name, limit=200) if c.verb == "retrain"]
    chosen = [c for c in cycles if as_of is None or c.as_of == as_of]
    if not chosen:
        known = ", ".join(_iso(c.as_of) for c in cycles[:5]) or "none"
        raise ProblemError(
            f"{problem.name}: no retraining cycle {'yet' if as_of is None else f'as of {_iso(as_of)}'}; found {known}",
            code="no_cycle",
            next_step=f"automl cycle {problem.file.name}",
        )
    return store, chosen[0]


def _champion(release: Release) -> dict[str, Any]:
    return {
        "model_version": release.model_version,
        "as_of": _iso(release.as_of),
        "blend": str(release.blend),
        "run_id": release.run_id,
        "fingerprint": release.fingerprint,
    }


def _generation(generation: Generation) -> dict[str, Any]:
    return {
        "generation": generation.id,
        "as_of": _iso(generation.as_of),
        "until": _iso(generation.until),
        "rows": generation.rows,
        "model_version": generation.model_version,
    }


def _places(
    problem: Problem, workspace: Workspace, generation: int | None = None
) -> dict[str, str | None]:
    """Where predictions are read: those that readers see, or a generation that has never been before them."""
    live = Store(workspace).live(problem.table) if generation else None
    past = live is not None and live.id != generation
    shown = f"{problem.table}_history where generation = {generation}" if past else problem.table
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


def _iso(moment: datetime) -> str:
    return (
        f"{moment:%Y-%m-%d}"
        if (moment.hour, moment.minute) == (0, 0)
        else f"{moment:%Y-%m-%dT%H:%M}"
    )
