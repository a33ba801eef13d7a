"""Words of the store follow the glossary: baseline, out-of-sample, in-sample, realised performance, expire."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"

COLUMNS = {
    "automl_evidence": {"floor": "baseline_loss"},
    "automl_generation": {"judged_rows": "labelled_rows", "judged": "realised"},
}
KINDS = {"virgin": "out_of_sample", "sweep": "in_sample"}


def upgrade() -> None:
    """Rename columns, and words inside rows."""
    connection = op.get_bind()
    for table, names in COLUMNS.items():
        found = {c["name"] for c in sa.inspect(connection).get_columns(table)}
        for old, new in names.items():
            if old in found:
                op.alter_column(table, old, new_column_name=new)
    evidence = sa.table("automl_evidence", sa.column("kind"))
    for old, new in KINDS.items():
        connection.execute(evidence.update().where(evidence.c.kind == old).values(kind=new))
    ledger = sa.table("automl_ledger", sa.column("kind"))
    connection.execute(ledger.update().where(ledger.c.kind == "lapse").values(kind="expire"))
    _rewrite(connection, "automl_waiting", "problem", "losses", _losses)
    _rewrite(connection, "automl_decision", "id", "content", _content)


def _rewrite(connection: sa.Connection, name: str, key: str, column: str, new: Any) -> None:
    table = sa.table(name, sa.column(key), sa.column(column, sa.JSON))
    for row in connection.execute(sa.select(table)).all():
        changed = new(row[1])
        if changed != row[1]:
            one = table.update().where(table.c[key] == row[0])
            connection.execute(one.values({column: changed}))


def _losses(losses: dict[str, float]) -> dict[str, float]:
    return {"baseline" if name == "floor" else name: loss for name, loss in losses.items()}


def _content(content: dict[str, Any]) -> dict[str, Any]:
    verdicts, blocks = content.get("verdicts") or [], content.get("blocks") or []
    renamed = [{"out_of_sample" if k == "virgin" else k: x for k, x in v.items()} for v in verdicts]
    kinds = [{**b, "kind": KINDS.get(b["kind"], b["kind"])} for b in blocks if "kind" in b]
    changed = {**content, "verdicts": renamed} if verdicts else content
    return {**changed, "blocks": kinds} if len(kinds) == len(blocks) > 0 else changed
