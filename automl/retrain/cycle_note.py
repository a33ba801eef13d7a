"""What a reviewer reads about a cycle in MLflow: plain values in, text and small documents out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from automl.cycles.job import Job
from automl.history.contract import contract_file
from automl.modeling.metrics import get_metric
from automl.modeling.recipes import Blend
from automl.promotion.decide import Decision, Verdict
from automl.promotion.guards import Guard
from automl.promotion.release import PendingDecision
from automl.sweep import Leaderboard, Work, blend_outputs
from automl.tracking import DECISIONS, LEADERBOARD, view_link

__all__ = [
    "Told",
    "cycle_artifacts",
    "cycle_metrics",
    "cycle_note",
    "cycle_tags",
    "run_params",
    "run_tags",
]

_WORDS = {  # outcome -> what the tag says, and its colour
    "first": ("promoted (first)", "#2b8a3e"),
    "promote": ("promoted", "#2b8a3e"),
    "revert": ("reverted", "#e8590c"),
    "keep": ("kept", "#868e96"),
    "stay": ("kept as it was", "#868e96"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """Everything a note is made of."""

    work: Work
    leaderboard: Leaderboard
    decision: Decision
    pending: PendingDecision
    blend: Blend
    version: int
    guards: Sequence[Guard]
    experiment: str
    tracking_uri: str


def cycle_metrics(told: Told) -> dict[str, float]:
    """Metrics of the parent run; never a key of the child runs."""
    metric, leaderboard = told.work.metric, told.leaderboard
    best = next((t for t in leaderboard.ranked if t.status == "complete"), None)
    values: dict[str, float] = {
        "n_trials": len(leaderboard.trials),
        "n_failed": sum(t.status == "failed" for t in leaderboard.trials),
        "n_pruned": sum(t.status == "pruned" for t in leaderboard.trials),
        "minutes": leaderboard.seconds / 60,
        "fit_share": leaderboard.time_in_fits(told.work.workers),
        f"champ_{metric.name}": _mean_score(told),
    }
    if best:
        values[f"best_{metric.name}"] = best.score
    verdict = _verdict(told)
    if verdict:
        values |= {
            "gain_pct": 100 * verdict.shrunk,
            "gain_low": 100 * verdict.low,
            "gain_high": 100 * verdict.high,
            "p_better": verdict.probability,
        }
    return values


def cycle_tags(told: Told) -> dict[str, str]:
    """Tags of the parent run."""
    word, colour = _WORDS[told.pending.outcome]
    if told.pending.waiting:
        word += ", one waits"
    return {
        "decision": word,
        "winner": _in_words(told.blend),
        "champion_version": str(told.version),
        "mlflow.runColor": colour,
    }


def cycle_note(told: Told) -> str:
    """The decision in a few lines, most important first: the page cuts after about six."""
    head = {
        "first": "✔ Promoted",
        "promote": "✔ Promoted",
        "revert": "↺ Reverted to the former champion, refitted as",
        "keep": "– Kept the champion, refitted as",
        "stay": "– Kept the champion as it was released,",
    }
    problem, leaderboard, work = told.work.problem, told.leaderboard, told.work
    guards = " · ".join(f"{'✓' if g.passed else '✗'} {g.name} ({g.found})" for g in told.guards)
    blocks = [b.name for b in work.blocks]
    lines = [
        f"**{head[told.pending.outcome]} v{told.version}**: {_in_words(told.blend)}",
        f"- {told.pending.reason}",
        *_more(told),
        f"- {work.metric.name} {_mean_score(told):.4f} {work.metric.arrow} over {len(blocks)} blocks ({', '.join(blocks)})",
        f"- {leaderboard.in_words}",
        f"- guards: {guards}",
        f"- undo: `automl rollback {problem.file.name} --reason ...`; artifacts: decision.json, leaderboard.json",
    ]
    if told.tracking_uri.startswith("http"):
        base = told.tracking_uri.rstrip("/")
        links = [
            f"[{name}]({view_link(base, told.experiment, view)})"
            for name, view in (("decisions", DECISIONS), ("leaderboard", LEADERBOARD))
        ]
        lines.append(f"- {' · '.join(links)}")
    return "\n".join([lines[0], "", *lines[1:]]) + _slices(told)


def cycle_artifacts(told: Told) -> dict[str, str | dict[str, Any]]:
    """Small documents of the parent run; never a row of data."""
    problem = told.work.problem
    rows = [
        {
            "rank": i,
            "family": t.recipe.family,
            "state": t.status,
            told.work.metric.name: t.score,
            **t.also,
            "blocks": len(t.scores),
            "fit_s": t.seconds_fit,
            "half_life": t.recipe.half_life,
            "recent": t.recipe.recent,
            "trend": t.recipe.trend,
            "params": t.recipe.params,
            "reason": t.reason,
        }
        for i, t in enumerate(told.leaderboard.ranked, 1)
    ]
    return {
        "decision.md": cycle_note(told),
        "decision.json": json.loads(
            json.dumps(
                {
                    **told.pending.content,
                    "reason": told.pending.reason,
                    "version": told.version,
                    "guards": [asdict(g) for g in told.guards],
                },
                default=str,
            )
        ),
        "leaderboard.json": {
            "columns": list(rows[0]) if rows else [],
            "data": [list(r.values()) for r in rows],
        },
        "config/problem.toml": problem.file.read_text(encoding="utf-8"),
        "data/contract.json": contract_file(problem).read_text(encoding="utf-8"),
        "env/requirements.txt": "\n".join(_packages()) + "\n",
    }


def _more(told: Told) -> list[str]:
    """What else a reviewer has to know of this decision, where there is something."""
    lines, content = [], told.pending.content
    one = told.pending.waiting
    if one is not None:
        file = told.work.problem.file.name
        lines.append(
            f"- version {one.model_version} ({_in_words(one.blend)}) waits until {one.expires_at:%Y-%m-%d %H:%M}: "
            f"`automl approve {file} {one.model_version} --reason ...`, or the tag `approved` on it"
        )
    if content.get("attribution"):
        lines.append(f"- {content['attribution']['text']}")
    if content.get("probation") and told.pending.outcome != "revert":
        lines.append(f"- probation: {content['probation']['reason']}")
    return lines


def _in_words(blend: Blend) -> str:
    """A blend by family, heaviest first: a column shows some thirty letters."""
    if len(blend.families) == 1:
        count, family = len(blend.members), blend.families[0]
        return family if count == 1 else f"blend of {count} {family}"
    shares = {
        family: [m.weight for m in blend.members if m.recipe.family == family]
        for family in blend.families
    }
    ranked = sorted(shares.items(), key=lambda item: -sum(item[1]))
    return " + ".join(
        f"{sum(weights):.0%} {family}" + (f" ({len(weights)})" if len(weights) > 1 else "")
        for family, weights in ranked
    )


def _mean_score(told: Told) -> float:
    outputs = blend_outputs(told.work, told.blend)
    if not outputs:
        return float("nan")
    scores = [judged.score(told.work.metric) for judged in outputs]
    return float(sum(scores) / len(scores))


@cache
def _packages() -> list[str]:
    """What is installed, with versions; read once, since it takes half a second."""
    return sorted({f"{d.metadata['Name']}=={d.version}" for d in distributions()}, key=str.lower)


def _verdict(told: Told) -> Verdict | None:
    verdicts = told.decision.verdicts
    chosen = [v for v in verdicts if v.challenger == told.decision.blend]
    ranked = chosen or sorted(verdicts, key=lambda v: -v.shrunk)
    return ranked[0] if ranked else None


def _slices(told: Told) -> str:
    """Scores of the chosen blend per declared slice on the newest block, largest slices first."""
    names = told.work.problem.metric.slices
    outputs = blend_outputs(told.work, told.blend)
    if not names or not outputs:
        return ""
    metric = get_metric(told.work.problem.metric.name)
    rows = told.work.frame.iloc[told.work.blocks[0].validation]
    lines = ["", "", "| slice | rows | score |", "| --- | ---: | ---: |"]
    for name in names:
        values = rows[name].to_numpy()
        for value, count in rows[name].value_counts().head(8).items():
            score = outputs[0].take(values == value).score(metric)
            lines.append(f"| {name} = {value} | {count} | {score:.4f} |")
    return "\n".join(lines)


def run_tags(job: Job) -> dict[str, str]:
    """Tags of a cycle's run that are known when it begins."""
    return {
        "trigger": job.options.trigger,
        "data_as_of": job.as_of.isoformat(),
        "git_sha": _commit_of(job.workspace.root),
    }


def run_params(job: Job, work: Work) -> dict[str, Any]:
    """Params of a cycle's run: what it works on, and how."""
    s = job.problem.sweep
    return {
        "metric": job.problem.metric.name,
        "better": work.metric.better,
        "blocks": len(work.blocks),
        "block": job.problem.validation.block,
        "labels_complete_after": job.problem.history.label_delay or "at once",
        "horizon": job.problem.horizon,
        "seed": s.seed,
        "families": ", ".join(work.offered),
        "budget": s.budget or f"{s.trials} trials",
        "rows": len(work.frame),
        "first": work.frame[job.problem.history.time].iloc[0],
        "last": work.frame[job.problem.history.time].iloc[-1],
        "workers": work.workers,
    }


def _commit_of(folder: Path) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
