"""Commands killed at any moment, raced, halted or left without their database break no rule."""

from __future__ import annotations

import random
import sqlite3
import time
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.commands import PATIENCE, Done
from tests.support.observer import World, effective, look, violations
from tests.support.parcels import AS_OF
from tests.support.postgres import PostgresServer
from tests.support.workspaces import DATABASES, NOW, Worlds

DAY = timedelta(days=1)
SLOT = timedelta(hours=6)  # between commands of a sequence; the world ends in the middle of May
ROUND = ("cycle", "score", "rollback", "cycle", "retrain", "score", "rollback", "score")
MOST_KILLS = 4  # of one command, before it may run to its end


class Sequence:
    """One command after another in one world, each killed some times before it may end."""

    def __init__(self, worlds: Worlds, world: World, seed: int) -> None:
        self.worlds, self.world = worlds, world
        self.random = random.Random(seed)
        self.kills = self.commands = 0
        self.as_of = AS_OF
        self.scored = True
        self.seconds: dict[str, float] = {}  # that a verb's last whole run took

    def until(self, kills: int) -> None:
        """Run commands until so many were killed."""
        while self.kills < kills:
            verb = ROUND[self.commands % len(ROUND)]
            self.commands += 1
            self._one(
                self._typed(verb), min(self.random.randint(1, MOST_KILLS), kills - self.kills)
            )

    def _typed(self, verb: str) -> tuple[str, ...]:
        if verb == "rollback":
            versions = [version for _, version in look(self.world)["releases"]]
            other = next(v for v in versions if v != versions[0])
            return verb, "--to", str(other), "--reason", f"command {self.commands}"
        if verb != "score" or self.scored:  # after a retraining, its own batch is scored
            self.as_of += SLOT
        self.scored = verb != "retrain"
        return verb, "--as-of", f"{self.as_of:%Y-%m-%dT%H:%M}"

    def _one(self, typed: tuple[str, ...], kills: int) -> None:
        before = look(self.world)
        states = [effective(before)]
        for _ in range(kills):
            longest = self.seconds.get(typed[0], 3.0)
            command = self.worlds.start(self.world, *typed)
            command.kill(after=self.random.uniform(0, 0.8 * longest))
            code = command.wait().code
            assert code in (0, -9)
            self.kills += code == -9
            assert violations(self.world) == [], f"{typed} after {self.kills} kills"
            states.append(effective(look(self.world)))
            if code == 0:
                break
        after = self._to_its_end(typed)
        states.append(effective(after))
        steps = sum(one != other for one, other in pairwise(states))
        assert steps <= 1, "what is effective changes once, at the commit"

    def _to_its_end(self, typed: tuple[str, ...]) -> dict[str, Any]:
        started = time.monotonic()
        once = self.worlds.run(self.world, *typed)
        spent = time.monotonic() - started
        assert once.code == 0, once.err
        if not once.document["already"]:
            self.seconds[typed[0]] = spent
        assert violations(self.world, settled=True, scored=self.scored) == [], typed
        after = look(self.world)
        twice = self.worlds.run(self.world, *typed)
        assert (twice.code, twice.document["already"]) == (0, True), twice.err
        assert look(self.world) == after, "run again, it is a no-op"
        return after


@pytest.mark.parametrize(
    ("database", "kills"),
    [
        ("sqlite", 1),
        pytest.param("sqlite", 120, marks=pytest.mark.slow),
        pytest.param("postgres", 80, marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment_no_rule_is_broken(worlds: Worlds, database: str, kills: int) -> None:
    sequence = Sequence(worlds, worlds.of(database, "cycle"), seed=kills)

    sequence.until(kills)

    assert sequence.kills == kills
    left = sequence.world.query("select id from automl_generation where state = 'staging'")
    sequence._one(("cycle", "--as-of", f"{sequence.as_of + DAY:%Y-%m-%d}"), 0)
    after = sequence.world.query("select id from automl_generation where state = 'staging'")
    assert after == [], f"a whole cycle deletes half-written generations: {left}"


# ---------------------------------------------------------------- races


@pytest.mark.parametrize(
    ("database", "rounds"),
    [
        pytest.param("sqlite", 1),
        *(pytest.param(name, 15, marks=pytest.mark.slow) for name in DATABASES),
    ],
)
def test_of_three_that_race_for_a_cycle_one_runs_it(
    worlds: Worlds, database: str, rounds: int
) -> None:
    world = worlds.of(database, "cycle")
    for number in range(rounds):
        before = look(world)
        typed = ("cycle", "--as-of", f"{AS_OF + number * DAY:%Y-%m-%d}")

        ended = [command.wait() for command in [worlds.start(world, *typed) for _ in range(3)]]

        output = "\n".join(f"{done.code}: {done.err}" for done in ended)
        assert sum(_ran(done) for done in ended) == 1, output
        assert {done.code for done in ended} <= {0, 7}, output
        assert violations(world, settled=True) == [], output
        after = look(world)
        for name in ("releases", "decisions"):
            assert len(after[name]) == len(before[name]) + 1, output
        assert after["live"] != before["live"]


def _ran(done: Done) -> bool:
    return done.code == 0 and not done.document["already"]


# ---------------------------------------------------------------- without a database


def _with_a_long_batch(worlds: Worlds, rows: int) -> World:
    """A world whose coming week has that many rows; its last week was scored."""
    world = worlds.of("postgres", "cycle")
    head, batch = "[metric]", '[batch]\nresize = "allow"\n\n[metric]'
    text = world.file.read_text(encoding="utf-8")
    world.file.write_text(text.replace(head, batch), encoding="utf-8")
    with sqlite3.connect(world.file.parent / "world.db") as database:
        columns = [row[1] for row in database.execute("pragma table_info(parcels)")]
        selected = ", ".join({"parcel": "100000 + n", "sent_at": "?"}.get(c, c) for c in columns)
        database.execute(
            f"with recursive many(n) as (select 1 union all select n + 1 from many where n < {rows}) "
            f"insert into parcels select {selected} from many, (select * from parcels limit 1)",
            (f"{AS_OF + DAY:%Y-%m-%d %H:%M:%S}",),
        )
    return world


def _until_rows_are_copied(server: PostgresServer) -> None:
    """Wait until some session is in the middle of a COPY."""
    query = sa.text("select 1 from pg_stat_activity where state = 'active' and query like 'copy %'")
    deadline = time.monotonic() + PATIENCE
    with server.superuser.connect() as connection:
        while connection.scalar(query) is None:
            assert time.monotonic() < deadline, "no session copies"
            time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["copy", "stage.piece", "publish.in_commit", "score.audited"])
def test_a_database_that_falls_in_the_middle_of_a_publish_leaves_the_old_generation(
    worlds: Worlds, postgres: PostgresServer, moment: str
) -> None:
    world = _with_a_long_batch(worlds, 120_000)
    typed, before = ("score", "--as-of", NOW), look(world)

    halt = {} if moment == "copy" else {"AUTOML_FAULT": f"{moment}:stop"}
    command = worlds.start(world, *typed, **halt)
    if moment == "copy":
        _until_rows_are_copied(postgres)
        postgres.stop_immediate()
    else:
        command.stopped()
        postgres.stop_immediate()
        command.resume()
    fallen = command.wait()
    postgres.start()

    assert fallen.code in (5, 6), fallen.err
    assert "next: " in fallen.err
    assert "Traceback" not in fallen.err
    assert fallen.document["error"]["exit_code"] == fallen.code
    assert effective(look(world)) == effective(before)
    assert violations(world) == []
    again = worlds.run(world, *typed)
    assert again.code == 0, again.err
    assert violations(world, settled=True) == []
    assert again.document["rows"] > 120_000


# ---------------------------------------------------------------- a holder that slept


def _take_the_lock_away(postgres: PostgresServer, world: World) -> None:
    """End the session on the server, or remove the lock's file."""
    if not world.url:
        (world.file.parent / ".automl" / "locks" / "problem-parcels.lock").unlink()
        return
    end = sa.text("select pg_terminate_backend(pid) from pg_stat_activity where datname = :name")
    with postgres.superuser.connect() as connection:
        connection.execute(end, {"name": sa.make_url(world.url).database})


HALTS = ["retrain.opened", "retrain.swept", "retrain.registered", "score.audited"]


@pytest.mark.parametrize(
    ("database", "halt", "later"),
    [
        pytest.param(database, halt, later, marks=() if quick else pytest.mark.slow)
        for database in DATABASES
        for halt in HALTS
        for later in (0, 1)  # days: the others run the same cycle, or the next one
        for quick in [(database, halt, later) == ("sqlite", "score.audited", 0)]
    ],
)
def test_a_holder_that_slept_past_a_newer_commit_commits_nothing(
    worlds: Worlds, postgres: PostgresServer, database: str, halt: str, later: int
) -> None:
    world = worlds.of(database, "cycle")
    typed = ("cycle", "--as-of", NOW)
    asleep = worlds.start(world, *typed, AUTOML_FAULT=f"{halt}:stop")
    asleep.stopped()
    before = look(world)
    refused = worlds.run(world, *typed)
    assert (refused.code, refused.document["error"]["code"]) == (7, "busy")
    assert look(world) == before

    _take_the_lock_away(postgres, world)
    newer = worlds.run(world, "cycle", "--as-of", f"{AS_OF + later * DAY:%Y-%m-%d}")
    assert newer.code == 0, newer.err
    assert violations(world, settled=True) == []
    after = look(world)
    asleep.resume()
    fenced = asleep.wait()

    assert (fenced.code, fenced.document["error"]["code"]) == (7, "fenced"), fenced.err
    assert "Traceback" not in fenced.err
    assert look(world) == after, "it has changed nothing"
    assert violations(world, settled=True) == []
    again = worlds.run(world, *typed)
    assert again.code == (2 if later else 0), (
        again.err
    )  # an older cycle is refused without --backfill
    assert look(world) == after
