"""The tables of the store; times are naive UTC, documents are JSON."""

from __future__ import annotations

import sqlalchemy as sa

__all__ = [
    "SCHEMA_VERSION",
    "alert",
    "cycle",
    "decision",
    "evidence",
    "fence",
    "generation",
    "inserted",
    "ledger",
    "meta",
    "metadata",
    "pointer",
    "profile",
    "release",
    "shadow",
    "trial",
    "waiting",
    "watch",
]

# raised with every change of a table; the revision of that number makes it: migrations/versions
SCHEMA_VERSION = 6

metadata = sa.MetaData()


def inserted(connection: sa.Connection, insert: sa.Insert) -> int:
    """Execute an insert; the id the database gave."""
    key = connection.execute(insert).inserted_primary_key
    if key is None:
        raise AssertionError("these tables count up by themselves")
    return int(key[0])


# in SQLite only INTEGER counts up by itself
Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")

meta = sa.Table(
    "automl_meta",
    metadata,
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("store", sa.Text),  # a random id; of this store alone
)

fence = sa.Table(
    "automl_fence",
    metadata,
    sa.Column("problem", sa.Text, primary_key=True),
    sa.Column("value", Id, nullable=False),  # goes up whenever a process takes the lock
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("since", sa.DateTime, nullable=False),
)

cycle = sa.Table(
    "automl_cycle",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("verb", sa.Text, nullable=False),  # retrain | score
    sa.Column("as_of", sa.DateTime, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),  # above 1: run again, with a reason
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("problem_digest", sa.Text, nullable=False),
    sa.Column("receipts", sa.JSON, nullable=False),  # of finished steps: paths, digests, ids
    sa.Column("started_at", sa.DateTime, nullable=False),
    sa.Column("finished_at", sa.DateTime),
    sa.UniqueConstraint("problem", "verb", "as_of", "attempt"),
)

trial = sa.Table(
    "automl_trial",
    metadata,
    sa.Column("cycle_id", Id, primary_key=True),
    sa.Column("recipe", sa.Text, primary_key=True),
    sa.Column("content", sa.JSON, nullable=False),
)

evidence = sa.Table(
    "automl_evidence",
    metadata,
    sa.Column("problem", sa.Text, primary_key=True),
    sa.Column("cycle", sa.DateTime, primary_key=True),
    sa.Column("blend", sa.Text, primary_key=True),
    sa.Column("start", sa.DateTime, primary_key=True),
    sa.Column("end", sa.DateTime, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("loss", sa.Float, nullable=False),
    sa.Column("baseline_loss", sa.Float, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("metric", sa.Text),  # null: of a version that did not record it
)

decision = sa.Table(
    "automl_decision",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("as_of", sa.DateTime, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),  # first | promote | revert | keep | stay | wait
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("content", sa.JSON, nullable=False),
    sa.Column("decided_at", sa.DateTime, nullable=False),
    sa.UniqueConstraint("problem", "as_of", "attempt"),
)

release = sa.Table(
    "automl_release",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("as_of", sa.DateTime, nullable=False),
    sa.Column("decision_id", Id, nullable=False),
    sa.Column("model_version", sa.Integer, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("digests", sa.JSON, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("blend", sa.JSON, nullable=False),
    sa.Column("labels_until", sa.DateTime, nullable=False),  # of the cycle that made the blend
    sa.Column("released_at", sa.DateTime, nullable=False),
    sa.Column("projected_at", sa.DateTime),  # when MLflow's aliases followed
)

shadow = sa.Table(
    "automl_shadow",
    metadata,
    sa.Column("problem", sa.Text, primary_key=True),
    sa.Column("blend_id", sa.Text, primary_key=True),
    sa.Column("blend", sa.JSON, nullable=False),
    sa.Column("labels_until", sa.DateTime, nullable=False),
)

ledger = sa.Table(  # append-only: rows are never changed or removed
    "automl_ledger",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("at", sa.DateTime, nullable=False),  # wall clock of the commit
    sa.Column("as_of", sa.DateTime, nullable=False),  # of the release it is about
    sa.Column("kind", sa.Text, nullable=False),  # see automl.store.ledger
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("from_version", sa.Integer),  # champion before
    sa.Column("to_version", sa.Integer),  # champion after
    sa.Column("decision_id", Id),  # whose evidence it rests on
    sa.Column("generation", Id),  # that was published in the same transaction
    sa.Column("blend_id", sa.Text, nullable=False, default=""),  # reverted, rejected, or waiting
)

waiting = sa.Table(
    "automl_waiting",
    metadata,
    sa.Column("problem", sa.Text, primary_key=True),  # one challenger at a time
    sa.Column("as_of", sa.DateTime, nullable=False),
    sa.Column("decision_id", Id, nullable=False),
    sa.Column("blend_id", sa.Text, nullable=False),
    sa.Column("blend", sa.JSON, nullable=False),
    sa.Column("labels_until", sa.DateTime, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),  # why it should be champion
    sa.Column("losses", sa.JSON, nullable=False),  # on the newest block; see `ledger.Waiting`
    sa.Column("waits_since", sa.DateTime, nullable=False),
    sa.Column("expires_at", sa.DateTime, nullable=False),  # wall clock
    sa.Column("model_version", sa.Integer, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("digests", sa.JSON, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
)

generation = sa.Table(
    "automl_generation",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("as_of", sa.DateTime, nullable=False),
    sa.Column("until", sa.DateTime, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("model_version", sa.Integer, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("batch", sa.Text, nullable=False),  # digest of the rows that were scored
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # staged | published | removed
    sa.Column("scored_at", sa.DateTime, nullable=False),
    sa.Column("published_at", sa.DateTime),
    sa.Column("exported_at", sa.DateTime),  # when the parquet copy followed
    sa.Column("labelled_rows", sa.Integer, nullable=False, default=0),
    sa.Column("realised", sa.JSON),  # metric -> score on the labels that arrived
)

pointer = sa.Table(
    "automl_pointer",
    metadata,
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("generation", Id, nullable=False),
    sa.Column("fence", Id, nullable=False),
)

alert = sa.Table(
    "automl_alert",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),  # one of a kind is open at a time
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("opened_at", sa.DateTime, nullable=False),
    sa.Column("sent_at", sa.DateTime),  # null: no address took it yet
    sa.Column("recovered_at", sa.DateTime),  # null: open
)

watch = sa.Table(  # what monitoring found last
    "automl_watch",
    metadata,
    sa.Column("problem", sa.Text, primary_key=True),
    sa.Column("as_of", sa.DateTime, nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("watched_at", sa.DateTime, nullable=False),
)

profile = sa.Table(  # of the rows of one batch and their predictions, against which later ones are compared
    "automl_profile",
    metadata,
    sa.Column("problem", sa.Text, primary_key=True),
    sa.Column("start", sa.DateTime, primary_key=True),
    sa.Column("end", sa.DateTime, nullable=False),
    sa.Column("generation", Id, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("content", sa.JSON, nullable=False),
)
