"""A power cut at any step boundary leaves what was before, or what comes after; never a mix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.observer import World, effective, look, violations
from tests.support.workspaces import DATABASES, NOW, PROMOTING, Worlds, drop_standbys, in_review

ROOT = Path(__file__).parents[2]
# the variable part of a fault point -> where the code fills it in
FILLED = {
    "{verb}": r'open_job\(problem, workspace, "(\w+)"',
    "{entry.kind}": r'_entry\(session, "(\w+)"',
}


def _points() -> set[str]:
    """Every fault point, as the code names them."""
    code = "\n".join(f.read_text(encoding="utf-8") for f in (ROOT / "automl").rglob("*.py"))
    found = set()
    for name in re.findall(r'\bfault\(\s*f?"([^"]+)"', code):
        open_part = re.match(r"\{.*\}", name)
        if open_part is None:
            found.add(name)
            continue
        words = re.findall(FILLED[open_part[0]], code)
        found |= {name.replace(open_part[0], word) for word in words}
    return found


@dataclass(frozen=True, slots=True)
class CommandCase:
    """A command line, the world it runs in, and the fault points that it passes."""

    typed: tuple[str, ...]
    world: str
    pipelines: tuple[str, ...]  # whose points it passes, ...
    not_passed: tuple[str, ...] = ()  # ... except these
    before: str = ""


AS_OF = ("--as-of", NOW)
WHY = ("--reason", "why")
WAITS = "retrain.waiting_registered"  # passed only in review mode
SCORED = ("score", "stage", "export", "reconcile")
CASES = {
    "cycle": CommandCase(
        ("cycle", *AS_OF), "cycle", ("retrain", "release", "clean", *SCORED),
        ("score.opened", WAITS),
    ),
    "review": CommandCase(
        ("cycle", *AS_OF, "--plan", "full"), "cycle, then review",
        ("retrain", "release", "clean", *SCORED), ("score.opened",), before=PROMOTING,
    ),
    "retrain": CommandCase(
        ("retrain", *AS_OF), "cycle", ("retrain", "release", "clean", "reconcile"), (WAITS,)
    ),
    "score": CommandCase(
        ("score", *AS_OF), "cycle, retrain", ("publish", "clean", *SCORED), ("reconcile.aliased",)
    ),
    "reconcile": CommandCase(("score", *AS_OF), "cycle, retrain that MLflow missed", ("reconcile",)),
    "rollback": CommandCase(
        ("rollback", *WHY), "cycle, cycle", ("rollback", *SCORED), ("score.opened",)
    ),
    "approve": CommandCase(
        ("approve", *WHY), "cycle in review", ("approve", *SCORED), ("score.opened",)
    ),
    "reject": CommandCase(("reject", *WHY), "cycle in review", ("reject",)),
}  # fmt: skip
REVIEWED = (WAITS, "release.in_commit", "release.committed")
POINTS = _points()
QUICK = {
    ("sqlite", "cycle", "release.committed"),
}  # the others run in `make test-all`


def _points_of(case: CommandCase) -> list[str]:
    points = {p for p in POINTS if p.partition(".")[0] in case.pipelines}
    return sorted(points - set(case.not_passed))


EVERY = [(name, point) for name, case in CASES.items() for point in _points_of(case)]


def _after_the_commit(point: str) -> bool:
    pipeline, _, step = point.partition(".")
    return (
        step == "committed"
        or pipeline in ("reconcile", "export", "clean")
        or step == "mlflow_updated"
    )


def _cases() -> list[object]:
    return [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow, id="-".join(case))
        for database in DATABASES
        for case in ((database, name, point) for name, point in EVERY)
    ]


@pytest.mark.parametrize(("database", "name", "point"), _cases())
def test_killed_at_a_boundary_then_run_again_twice_then_undone(
    worlds: Worlds, database: str, name: str, point: str
) -> None:
    case = CASES[name]
    world = worlds.of(database, case.world)
    if name == "rollback":
        drop_standbys(world)
    before = look(world)

    killed = worlds.run(world, *case.typed, before=case.before, AUTOML_FAULT=point)

    assert killed.code == -9, f"{point} was not passed: {killed.err}"
    seen = look(world)
    assert violations(world) == []
    once = worlds.run(world, *case.typed, before=case.before)
    assert once.code == 0, once.err
    assert violations(world, settled=True, scored=name != "retrain") == []
    after = look(world)
    assert effective(after) != effective(before)
    committed = _after_the_commit(point) and name != "reconcile"  # MLflow follows before scoring
    assert effective(seen) == effective(after if committed else before), "all of it, or nothing"
    twice = worlds.run(world, *case.typed)
    assert (twice.code, twice.document["already"]) == (0, True), twice.err
    assert look(world) == after, "run again, it is a no-op"
    _undo(worlds, world)


def _undo(worlds: Worlds, world: World) -> None:
    """Go back to another version, twice."""
    versions = [version for _, version in look(world)["releases"]]
    other = next(v for v in versions if v != versions[0])
    back = ("rollback", "--to", str(other), "--reason", "undo it")
    once, twice = worlds.run(world, *back), worlds.run(world, *back)
    assert (once.code, twice.code) == (0, 0), once.err + twice.err
    assert violations(world, settled=True) == []
    seen = look(world)
    assert seen["releases"][0][1] == other == seen["live"][0][1]
    assert len(seen["releases"]) == len(versions) + 1
    assert seen["ledger"][-1] == ("rollback", versions[0], other)
    assert twice.document["already"]


def test_every_point_of_the_code_is_one_where_a_command_is_killed() -> None:
    assert len(POINTS) >= 25
    assert {point for _, point in EVERY} == POINTS
    assert {case[1:] for case in QUICK} <= set(EVERY)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_command_passes_the_points_listed_for_it(worlds: Worlds, name: str) -> None:
    case = CASES[name]
    world = worlds.of("sqlite", case.world)
    if name == "rollback":
        drop_standbys(world)

    done = worlds.run(world, *case.typed, before=case.before)

    passed = {p for p in done.passed if p.partition(".")[0] in case.pipelines}
    assert (done.code, passed) == (0, set(_points_of(case))), done.err


@pytest.mark.slow
@pytest.mark.parametrize("point", REVIEWED)
def test_a_cycle_in_review_killed_leaves_one_challenger_waiting(worlds: Worlds, point: str) -> None:
    world = worlds.of("sqlite", "cycle")
    in_review(world)
    typed = ("cycle", *AS_OF, "--plan", "full")

    killed = worlds.run(world, *typed, before=PROMOTING, AUTOML_FAULT=point)
    assert killed.code == -9, killed.err
    assert violations(world) == []
    once = worlds.run(world, *typed, before=PROMOTING)

    assert once.code == 0, once.err
    assert violations(world, settled=True) == []
    assert len(look(world)["waiting"]) == 1
    approved = worlds.run(world, "approve", *WHY)
    assert approved.code == 0, approved.err
    assert violations(world, settled=True) == []
    assert look(world)["waiting"] == []
