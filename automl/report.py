"""What people look at in a terminal: the store's rows as plain documents, and documents as text.

Every `x(...)` returns what `--json` prints; every `x_text(...)` turns that into something to read in 80
columns. Nothing here imports MLflow or scikit-learn.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from automl.ask import Ask, Ending, default_as_of, ended_already, same_problem
from automl.errors import ProblemError
from automl.problem import METRICS, Problem, family_names
from automl.spaces import Family, Recipe, load_family
from automl.store import Cycle, Release, Store, naive
from automl.workspace import Workspace, now

__all__ = [
    "checked",
    "checked_text",
    "ended",
    "ending",
    "ending_text",
    "families",
    "families_text",
    "family_text",
    "leaderboard",
    "leaderboard_text",
    "schedule_text",
    "standing",
    "status",
    "status_text",
    "ui_command",
    "why",
    "why_text",
]

HIGHER = {"roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1_macro", "r2"}
SHOWN_TRIALS = 12


# ---------------------------------------------------------------- how a command ended


def ended(problem: Problem, workspace: Workspace, verb: str, ask: Ask) -> Ending | None:
    """How that cycle has ended already, or None if there is work to do; answers in well under a second."""
    if ask.again or (
        not (workspace.home / "automl.db").exists() and workspace.database_url.startswith("sqlite")
    ):
        return None
    store = Store(workspace)
    as_of = ask.as_of or default_as_of(problem, verb, now())
    found = store.find_cycle(problem.name, "score" if verb == "score" else "retrain", as_of)
    champion, live = store.champion(problem.name), store.live(problem.table)
    lagging = (champion and not champion.projected) or (
        live and problem.publish.parquet and live["exported_at"] is None
    )
    if (
        found is None
        or not found.ended
        or lagging
        or (verb == "cycle" and found.status == "released")
    ):
        return None
    same_problem(found, problem)
    return ended_already(store, problem, found)


def ending(done: Ending, workspace: Workspace) -> dict[str, Any]:
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
        "predictions": _places(problem, workspace) if done.generation else None,
    }
    if done.board is not None:
        document["leaderboard"] = leaderboard(problem, workspace, done.as_of)
        document["turned_out"] = status(problem, workspace)["turned_out"]
    return document


def ending_text(document: Mapping[str, Any]) -> Group:
    """Leaderboard, decision, where the predictions are, and how earlier ones turned out."""
    parts: list[Any] = []
    if document.get("leaderboard"):
        parts += [leaderboard_text(document["leaderboard"]), Text()]
    head = f"{document['problem']} as of {document['as_of']}: {document['status']}"
    parts.append(Text(head + (" already" if document["already"] else ""), style="bold"))
    parts.append(Text(f"  {document['reason']}"))
    if document["model_version"]:
        parts.append(Text(f"  champion     version {document['model_version']}"))
    if document["predictions"]:
        parts.append(
            Text(f"  predictions  {document['rows']} rows, generation {document['generation']}")
        )
        parts += [
            Text(f"    {k:9}  {v}", overflow="fold")
            for k, v in document["predictions"].items()
            if v
        ]
    if document.get("turned_out"):
        parts += [Text(), turned_out_text(document["turned_out"])]
    parts += [Text(f"  warning: {w}", style="yellow") for w in document["warnings"]]
    return Group(*parts)


def standing(problem: Problem, workspace: Workspace) -> str:
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
        f"table {problem.table} still shows generation {live['id']}, {live['rows']} rows as of {live['as_of']:%Y-%m-%d %H:%M}"
        if live
        else f"table {problem.table} is still unpublished"
    )
    return f"{model}; {shown}"


# ---------------------------------------------------------------- leaderboard, why


def leaderboard(problem: Problem, workspace: Workspace, as_of: datetime | None) -> dict[str, Any]:
    """Trials of a cycle, best first."""
    store, cycle = _cycle(problem, workspace, as_of)
    metric = problem.metric.name
    higher = metric in HIGHER
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
            -(t["score"] or 0) if higher else (t["score"] or 0),
            t["number"],
        )
    )
    release = next((r for r in store.releases(problem.name) if r.as_of == cycle.as_of), None)
    chosen = {m.recipe.id: m.weight for m in release.blend.members} if release else {}
    for rank, trial in enumerate(trials, 1):
        trial["rank"], trial["weight"] = rank, chosen.get(trial["recipe"])
    return {
        "problem": problem.name,
        "as_of": _iso(cycle.as_of),
        "metric": metric,
        "better": "higher" if higher else "lower",
        "also": list(problem.metric.also),
        "trials": trials,
    }


def leaderboard_text(document: Mapping[str, Any]) -> Group:
    """At most 80 columns; the chosen members are marked with their weight."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    arrow = "↑" if document["better"] == "higher" else "↓"
    table.add_column("#", justify="right")
    table.add_column("family", no_wrap=True)
    for head in (
        f"{document['metric']} {arrow}",
        *document["also"][:1],
        "half-life",
        "fit s",
        "weight",
    ):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for t in document["trials"][:SHOWN_TRIALS]:
        table.add_row(
            str(t["rank"]),
            t["family"],
            _number(t["score"]),
            *(_number(t["also"].get(name)) for name in document["also"][:1]),
            f"{t['half_life']:g}" if t["half_life"] else "-",
            f"{t['fit_seconds']:.1f}",
            f"{t['weight']:.0%}" if t["weight"] else "",
            "" if t["state"] == "complete" else t["state"],
            style="bold" if t["weight"] else "",
        )
    rest = document["trials"][SHOWN_TRIALS:]
    states = [t["state"] for t in document["trials"]]
    foot = f"{len(states)} trials: " + ", ".join(
        f"{states.count(s)} {s}" for s in ("complete", "pruned", "failed")
    )
    failed = [
        f"  failed: {t['family']}: {t['reason']}"
        for t in document["trials"]
        if t["state"] == "failed"
    ][:3]
    more = f"; {len(rest)} more with --json" if rest else ""
    return Group(
        Text(f"{document['problem']} as of {document['as_of']}", style="bold"),
        table,
        Text(foot + more),
        *(Text(line, style="yellow") for line in failed),
    )


def why(problem: Problem, workspace: Workspace, as_of: datetime | None) -> dict[str, Any]:
    """The decision of a cycle, with every verdict and block."""
    store, cycle = _cycle(problem, workspace, as_of)
    found = [d for d in store.decisions(problem.name) if d["as_of"] == naive(cycle.as_of)]
    document: dict[str, Any] = {
        "problem": problem.name,
        "as_of": _iso(cycle.as_of),
        "status": cycle.status,
        "reason": cycle.reason,
    }
    if found:
        decided = found[0]
        document |= {
            "outcome": decided["outcome"],
            "attempt": decided["attempt"],
            "decided_at": decided["decided_at"].isoformat(),
            **decided["content"],
        }
    return document


def why_text(document: Mapping[str, Any]) -> Group:
    """Sentence, challengers, blocks."""
    parts: list[Any] = [
        Text(
            f"{document['problem']} as of {document['as_of']}: {document['status']}", style="bold"
        ),
        Text(f"  {document['reason']}"),
        Text(),
    ]
    blends = document.get("blends", {})
    if document.get("verdicts"):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for head in ("challenger", "gain", "90 % interval", "P", "needed", "blocks", "virgin"):
            table.add_column(head, justify="left" if head == "challenger" else "right")
        for v in document["verdicts"]:
            table.add_row(
                v["challenger"],
                f"{v['shrunk']:+.2%}",
                f"{v['low']:+.2%} {v['high']:+.2%}",
                f"{v['probability']:.2f}",
                f"{v['needed']:.2f}",
                str(v["blocks"]),
                str(v["virgin"]),
                style="green" if v["passed"] else "",
            )
        parts.append(table)
    if document.get("blocks"):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for head in ("block", "rows", "blend", "loss", "evidence"):
            table.add_column(head, justify="right" if head in ("rows", "loss") else "left")
        for b in document["blocks"]:
            table.add_row(b["block"], str(b["rows"]), b["blend"], f"{b['loss']:.5f}", b["kind"])
        parts.append(table)
    parts += [Text(f"  {name}  {b['text']}", overflow="fold") for name, b in blends.items()]
    if document.get("sweep"):
        s = document["sweep"]
        parts.append(
            Text(
                f"  sweep: {s['trials']} trials on {s['rows']} rows in {s['seconds']} s, stopped by {s['stopped']}"
            )
        )
    return Group(*parts)


# ---------------------------------------------------------------- status


def status(problem: Problem, workspace: Workspace) -> dict[str, Any]:
    """Champion, live generation, how published predictions turned out, last cycles."""
    store = Store(workspace)
    champion, live = store.champion(problem.name), store.live(problem.table)
    return {
        "problem": problem.name,
        "metric": problem.metric.name,
        "champion": _champion(champion) if champion else None,
        "live": _generation(live) | _places(problem, workspace) if live else None,
        "unscored": bool(champion and live and live["model_version"] != champion.model_version),
        "turned_out": [
            {**_generation(g), "judged_rows": g["judged_rows"], "scores": g["judged"]}
            for g in store.generations(problem.name, limit=6)
            if g["judged_rows"]
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


def status_text(document: Mapping[str, Any]) -> Group:
    """One screen."""
    champion, live = document["champion"], document["live"]
    parts: list[Any] = [Text(document["problem"], style="bold")]
    if champion is None:
        parts.append(Text("  no champion yet: automl cycle FILE"))
    else:
        parts.append(
            Text(
                f"  champion  version {champion['model_version']} of {champion['as_of']}: {champion['blend']}"
            )
        )
    if live is None:
        parts.append(Text("  nothing is published yet"))
    else:
        parts.append(
            Text(
                f"  live      generation {live['generation']}, {live['rows']} rows, {live['as_of']} to {live['until']}"
            )
        )
        parts += [
            Text(f"    {k:8}{live[k]}", overflow="fold") for k in ("sql", "parquet") if live.get(k)
        ]
    if document["unscored"]:
        parts.append(
            Text(f"  released v{champion['model_version']}, not yet scored", style="yellow")
        )
    if document["turned_out"]:
        parts += [Text(), turned_out_text(document["turned_out"])]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("cycle", "what", "ended", "reason"):
        table.add_column(head, no_wrap=head != "reason")
    for c in document["cycles"]:
        table.add_row(c["as_of"], c["verb"], c["status"], c["reason"].split("\n")[0])
    return Group(*parts, Text(), table)


def turned_out_text(rows: Sequence[Mapping[str, Any]]) -> Table:
    """How published predictions have turned out since their labels arrived."""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title="how predictions turned out",
        title_justify="left",
    )
    for head in ("generation", "as of", "version", "labels", *(rows[0]["scores"] or {})):
        table.add_column(head, justify="right")
    for g in rows:
        table.add_row(
            str(g["generation"]),
            g["as_of"],
            str(g["model_version"]),
            f"{g['judged_rows']} of {g['rows']}",
            *(_number(v) for v in (g["scores"] or {}).values()),
        )
    return table


# ---------------------------------------------------------------- set up


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


def checked_text(document: Mapping[str, Any]) -> Group:
    """A few lines that end in what to type next."""
    lines = [
        f"{document['problem']}: the problem file is valid",
        f"  task       {document['task']}, metric {document['metric']}",
        f"  families   {', '.join(document['families'])}",
        f"  next as_of {document['as_of']}, batch until {document['batch'][1]}",
        f"  publishes  table {document['table']}",
        f"  workspace  {document['workspace']}",
    ]
    return Group(*(Text(line, overflow="fold") for line in lines))


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


def families_text(document: Mapping[str, Any]) -> Group:
    """One line each."""
    lines = [
        Text(f"{f['name']:24}{f['about'].split(':', 1)[-1].strip()}") for f in document["families"]
    ]
    return Group(*lines, Text(), Text("automl spaces NAME|PATH checks one."))


def family_text(document: Mapping[str, Any]) -> Group:
    """Checks, then ranges."""
    lines: list[Any] = [Text(f"{document['family']}: {document['about']}", style="bold")]
    for c in document["checks"]:
        lines.append(
            Text(
                f"  {'ok ' if c['passed'] else 'NO '} {c['name']}: {c['found']}",
                style="" if c["passed"] else "red",
            )
        )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("parameter", "range"):
        table.add_column(head)
    for name, text in document["ranges"].items():
        table.add_row(name, text)
    return Group(
        *lines,
        table,
        Text(
            f"needs: {document['needs']}; {document['seconds_per_fit']:.2f} s per fit of 200 rows"
        ),
    )


def schedule_text(problems: Sequence[Problem]) -> str:
    """Deployments and their next slots."""
    lines = []
    for p in problems:
        for verb, cron in deployments(p):
            local = now().astimezone(ZoneInfo(p.schedule.timezone))
            slots = CronSim(cron, local)
            upcoming = ", ".join(f"{next(slots):%a %Y-%m-%d %H:%M}" for _ in range(2))
            lines.append(f"{verb}/{p.name}  {cron} {p.schedule.timezone}  next: {upcoming}")
    return "\n".join(lines)


def deployments(problem: Problem) -> list[tuple[str, str]]:
    """(flow, cron) of a problem: `cycle` when there is no schedule of its own for scoring.

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
    if s.retrain and s.score:
        return [("retrain", s.retrain), ("score", s.score)]
    return [("cycle", s.retrain)] if s.retrain else [("score", s.score)]


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


# ---------------------------------------------------------------- small things


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


def _generation(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "generation": row["id"],
        "as_of": _iso(row["as_of"].replace(tzinfo=UTC)),
        "until": _iso(row["until"].replace(tzinfo=UTC)),
        "rows": row["rows"],
        "model_version": row["model_version"],
    }


def _places(problem: Problem, workspace: Workspace) -> dict[str, str | None]:
    database = workspace.home / "automl.db"
    where = f"sqlite3 {database} " if workspace.database_url.startswith("sqlite") else ""
    parquet = workspace.resolve(problem.publish.parquet) if problem.publish.parquet else None
    return {
        "sql": f"{where}'select * from {problem.table}'",  # noqa: S608  for people to copy
        "parquet": str(parquet) if parquet else None,
    }


def _mean(scores: Sequence[float]) -> float | None:
    if not scores:
        return None
    weights = [0.85**i for i in range(len(scores))]
    return sum(w * s for w, s in zip(weights, scores, strict=True)) / sum(weights)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.1f}"


def _iso(moment: datetime) -> str:
    return (
        f"{moment:%Y-%m-%d}"
        if (moment.hour, moment.minute) == (0, 0)
        else f"{moment:%Y-%m-%dT%H:%M}"
    )
