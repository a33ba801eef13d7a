"""What a reviewer reads about a cycle in MLflow: note, tags, metrics and small documents, made from plain values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import distributions
from typing import Any

from automl.history.contract import contract_file
from automl.modeling.metrics import get_metric
from automl.modeling.recipes import Blend
from automl.promotion.decide import Verdict
from automl.promotion.guards import Guard
from automl.promotion.release import PendingDecision
from automl.retrain.choice import Choice
from automl.retrain.search import Sweep
from automl.sweep import Leaderboard, Work, blend_outputs
from automl.tracking import DECISIONS, LEADERBOARD, view_link

__all__ = ["CycleSummary", "cycle_artifacts", "cycle_metrics", "cycle_note", "cycle_tags"]

# outcome -> the run's tag `decision`, and its colour
_WORDS = {
    "first": ("promoted (first)", "#2b8a3e"),
    "promote": ("promoted", "#2b8a3e"),
    "revert": ("reverted", "#e8590c"),
    "keep": ("kept", "#868e96"),
    "stay": ("kept unchanged", "#868e96"),
}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CycleSummary:
    """Everything that note, tags and documents of a cycle are made of."""

    sweep: Sweep
    choice: Choice
    version: int  # of the champion
    guards: Sequence[Guard]
    experiment: str
    tracking_uri: str

    @property
    def work(self) -> Work:
        """What the sweep worked on."""
        return self.sweep.work

    @property
    def leaderboard(self) -> Leaderboard:
        """The result of the sweep."""
        return self.sweep.leaderboard

    @property
    def pending(self) -> PendingDecision:
        """The decision, as it is made effective."""
        return self.choice.pending


def cycle_metrics(summary: CycleSummary) -> dict[str, float]:
    """Metrics of the parent run; never a key of the child runs."""
    metric, leaderboard = summary.work.metric, summary.leaderboard
    best = next((t for t in leaderboard.ranked if t.status == "complete"), None)
    values: dict[str, float] = {
        "n_trials": len(leaderboard.trials),
        "n_failed": sum(t.status == "failed" for t in leaderboard.trials),
        "n_pruned": sum(t.status == "pruned" for t in leaderboard.trials),
        "minutes": leaderboard.seconds / 60,
        "fit_share": leaderboard.time_in_fits(summary.work.workers),
        f"champ_{metric.name}": _mean_score(summary),
    }
    if best:
        values[f"best_{metric.name}"] = best.score
    verdict = _verdict(summary)
    if verdict:
        values |= {
            "gain_pct": 100 * verdict.shrunk,
            "gain_low": 100 * verdict.low,
            "gain_high": 100 * verdict.high,
            "p_better": verdict.probability,
        }
    return values


def cycle_tags(summary: CycleSummary) -> dict[str, str]:
    """Tags of the parent run."""
    word, colour = _WORDS[summary.pending.outcome]
    if summary.pending.waiting:
        word += ", challenger waiting"
    return {
        "decision": word,
        "winner": _in_words(summary.choice.blend),
        "champion_version": str(summary.version),
        "mlflow.runColor": colour,
    }


def cycle_note(summary: CycleSummary) -> str:
    """The decision in a few lines, most important first: the page cuts after about six."""
    head = {
        "first": "✔ Promoted",
        "promote": "✔ Promoted",
        "revert": "↺ Reverted to the previous champion, refitted as",
        "keep": "– Kept the champion, refitted as",
        "stay": "– Kept the champion unchanged,",
    }
    problem, leaderboard, work = summary.work.problem, summary.leaderboard, summary.work
    guards = " · ".join(f"{'✓' if g.passed else '✗'} {g.name} ({g.found})" for g in summary.guards)
    blocks = [b.name for b in work.blocks]
    lines = [
        f"**{head[summary.pending.outcome]} v{summary.version}**: {_in_words(summary.choice.blend)}",
        f"- {summary.pending.reason}",
        *_details(summary),
        f"- {work.metric.name} {_mean_score(summary):.4f} {work.metric.arrow} over {len(blocks)} blocks ({', '.join(blocks)})",
        f"- {leaderboard.in_words}",
        f"- guards: {guards}",
        f"- undo: `automl rollback {problem.file.name} --reason ...`; artifacts: decision.json, leaderboard.json",
    ]
    if summary.tracking_uri.startswith("http"):
        base = summary.tracking_uri.rstrip("/")
        links = [
            f"[{name}]({view_link(base, summary.experiment, view)})"
            for name, view in (("decisions", DECISIONS), ("leaderboard", LEADERBOARD))
        ]
        lines.append(f"- {' · '.join(links)}")
    return "\n".join([lines[0], "", *lines[1:]]) + _slices(summary)


def cycle_artifacts(summary: CycleSummary) -> dict[str, str | dict[str, Any]]:
    """Small documents of the parent run; never a row of data."""
    problem = summary.work.problem
    rows = [
        {
            "rank": i,
            "family": t.recipe.family,
            "state": t.status,
            summary.work.metric.name: t.score,
            **t.also,
            "blocks": len(t.scores),
            "fit_s": t.seconds_fit,
            "half_life": t.recipe.half_life,
            "recent": t.recipe.recent,
            "trend": t.recipe.trend,
            "params": t.recipe.params,
            "reason": t.reason,
        }
        for i, t in enumerate(summary.leaderboard.ranked, 1)
    ]
    return {
        "decision.md": cycle_note(summary),
        "decision.json": json.loads(
            json.dumps(
                {
                    **summary.pending.content,
                    "reason": summary.pending.reason,
                    "version": summary.version,
                    "guards": [asdict(g) for g in summary.guards],
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


def _details(summary: CycleSummary) -> list[str]:
    """Waiting challenger, attribution of the gain, and probation, where there are any."""
    lines, content = [], summary.pending.content
    waiting = summary.pending.waiting
    if waiting is not None:
        file = summary.work.problem.file.name
        lines.append(
            f"- version {waiting.model_version} ({_in_words(waiting.blend)}) awaits approval until {waiting.expires_at:%Y-%m-%d %H:%M}: "
            f"`automl approve {file} {waiting.model_version} --reason ...`, or set the tag `approved` on it"
        )
    if content.get("attribution"):
        lines.append(f"- {content['attribution']['text']}")
    if content.get("probation") and summary.pending.outcome != "revert":
        lines.append(f"- probation: {content['probation']['reason']}")
    return lines


def _in_words(blend: Blend) -> str:
    """A blend by family, heaviest first; short, because a column shows about thirty letters."""
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


def _mean_score(summary: CycleSummary) -> float:
    outputs = blend_outputs(summary.work, summary.choice.blend)
    if not outputs:
        return float("nan")
    scores = [block.score(summary.work.metric) for block in outputs]
    return float(sum(scores) / len(scores))


@cache
def _packages() -> list[str]:
    """Installed packages with versions; read once, because that takes half a second."""
    return sorted({f"{d.metadata['Name']}=={d.version}" for d in distributions()}, key=str.lower)


def _verdict(summary: CycleSummary) -> Verdict | None:
    verdicts = summary.choice.decision.verdicts
    chosen = [v for v in verdicts if v.challenger == summary.choice.decision.blend]
    ranked = chosen or sorted(verdicts, key=lambda v: -v.shrunk)
    return ranked[0] if ranked else None


def _slices(summary: CycleSummary) -> str:
    """Scores of the chosen blend per declared slice on the newest block, largest slices first."""
    names = summary.work.problem.metric.slices
    outputs = blend_outputs(summary.work, summary.choice.blend)
    if not names or not outputs:
        return ""
    metric = get_metric(summary.work.problem.metric.name)
    rows = summary.work.frame.iloc[summary.work.blocks[0].validation]
    lines = ["", "", "| slice | rows | score |", "| --- | ---: | ---: |"]
    for name in names:
        values = rows[name].to_numpy()
        for value, count in rows[name].value_counts().head(8).items():
            score = outputs[0].take(values == value).score(metric)
            lines.append(f"| {name} = {value} | {count} | {score:.4f} |")
    return "\n".join(lines)
