"""Bad inputs, rows 72 to 84: sources that are down, slow, torn or closed, and a disk that is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from automl.history import Folders, pulls
from automl.history.sources import databases
from automl.history.sources import files as file_source
from automl.problem import Problem
from automl.workspace import open_workspace
from tests.support.catalogue import Case, Catalogue, Place, Refused, Seen, Works, good, some
from tests.support.parcels import AS_OF
from tests.support.postgres import PostgresServer
from tests.support.table_sources import DAY

CASES = Catalogue()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_sources_are_refused_and_leave_no_half_pull(
    case: Case, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    case.outcome.proves(lambda: case.run(Place(tmp_path, request)))
    folders = Folders(tmp_path / ".automl" / "history" / "parcels")
    assert list(tmp_path.rglob("*.tmp")) == []
    assert len(list(folders.snapshots.glob("*.json"))) <= len(pulls(folders))


def patch(place: Place) -> pytest.MonkeyPatch:
    """Patches that pytest undoes after the case."""
    patched: pytest.MonkeyPatch = place.request.getfixturevalue("monkeypatch")
    return patched


# ---------------------------------------------------------------- databases


def of_postgres(place: Place, query: str = "", user: str = "") -> Problem:
    """The good rows as PostgreSQL makes them."""
    server: PostgresServer = place.request.getfixturevalue("postgres")
    url = sa.make_url(server.new_database())
    source = (url.set(username=user) if user else url).render_as_string(hide_password=False)
    rows = (
        "select i as parcel, timestamp '2026-02-28' - i * interval '4 hours' as sent_at, "
        "i % 3 % 2 as late, i % 7 as weight from generate_series(1, 300) as i"
    )
    return place.edited(
        place.problem(), {"sqlite:///rows.db": source, "select * from rows": query or rows}
    )


@CASES(72, "database-missing", Refused("source_unreachable", "no file at .*rows.db", 5))
def _(place: Place) -> Seen:
    return place.cycle(place.problem())


@CASES(72, "server-down", Refused("source_unreachable", "does not respond", 5))
def _(place: Place) -> Seen:
    url = "postgresql://reader@127.0.0.1:9/shop"  # the discard port, where nothing listens
    return place.cycle(place.edited(place.problem(), {"sqlite:///rows.db": url}))


@CASES(72, "no-such-host", Refused("source_unreachable", "does not respond", 5))
def _(place: Place) -> Seen:
    url = "postgresql://reader@nowhere.invalid/shop"
    return place.cycle(place.edited(place.problem(), {"sqlite:///rows.db": url}))


@CASES(72, "no-such-user", Refused("source_denied", "refuses this user: .*nobody_we_know"))
def _(place: Place) -> Seen:
    return place.cycle(of_postgres(place, user="nobody_we_know"))


@CASES(72, "no-such-database", Refused("source_unreachable", "does not exist", 5))
def _(place: Place) -> Seen:
    server: PostgresServer = place.request.getfixturevalue("postgres")
    url = server.url("never_made")
    return place.cycle(place.edited(place.problem(), {"sqlite:///rows.db": url}))


@CASES(72, "files-missing", Refused("source_unreachable", "no file matches", 5))
def _(place: Place) -> Seen:
    return place.cycle(place.problem("csv"))


@CASES(73, "slow-postgres", Refused("source_slow", "took longer than 1 s and was stopped"))
def _(place: Place) -> Seen:
    patch(place).setattr(databases, "STATEMENT_SECONDS", 1)
    slow = "select *, pg_sleep(3) from (select 1 as parcel, now() as sent_at, 1 as late) as r"
    return place.cycle(of_postgres(place, slow))


@CASES(73, "slow-sqlite", Refused("source_slow", "took longer than 0 s and was stopped"))
def _(place: Place) -> Seen:
    patch(place).setattr(databases, "STATEMENT_SECONDS", 0)
    place.source().holds(good())
    slow = "select r.* from rows as r, rows as s, rows as t order by s.weight"
    return place.cycle(place.edited(place.problem(), {"select * from rows": slow}))


@CASES(74, "connection-lost", Refused("source_unreachable", "does not respond", 5))
def _(place: Place) -> Seen:
    # an interrupted pull keeps nothing; the scheduler runs the command again
    lost = """'''select i as parcel, timestamp '2026-02-28' - i * interval '1 second' as sent_at,
        case when i = 150000 then pg_terminate_backend(pg_backend_pid())::int else i % 2 end as late
        from generate_series(1, 200000) as i'''"""
    problem = of_postgres(place, "to be replaced")
    problem = place.edited(problem, {'"to be replaced"': lost})
    return place.cycle(problem)


# ---------------------------------------------------------------- files


def csv(place: Place, text: str) -> Problem:
    """A CSV file of good rows with something else at its end."""
    place.source("csv").holds(good())
    file = place.folder / "rows.csv"
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")
    return place.problem("csv")


# a last line that is cut within its last cell looks complete: write files elsewhere, then rename them into place
@CASES(76, "short-last-line", Refused("bad_file", r"rows.csv: .*[Ee]xpected 6 columns, got 3"))
def _(place: Place) -> Seen:
    return place.cycle(csv(place, "900,2026-02-01 10:00:00,4"))


@CASES(77, "long-line", Refused("bad_file", r"rows.csv: .*[Ee]xpected 6 columns, got 8"))
def _(place: Place) -> Seen:
    return place.cycle(csv(place, "900,2026-02-01 10:00:00,4,ant,1.0,1,7,8\n"))


@CASES(78, "unclosed-quote", Refused("bad_file", r"rows.csv: cannot be read: CSV parse"))
def _(place: Place) -> Seen:
    return place.cycle(csv(place, '900,2026-02-01 10:00:00,4,"ant,1.0,1\n' + "1,2,3,4,5,6\n" * 5))


@CASES(78, "wrong-delimiter", Refused("missing_column", "history.time: .* found parcel;sent_at"))
def _(place: Place) -> Seen:
    problem = csv(place, "")
    file = place.folder / "rows.csv"
    file.write_text(file.read_text(encoding="utf-8").replace(",", ";"), encoding="utf-8")
    declared = {'files = "rows.csv"': 'files = "rows.csv"\ndelimiter = ","'}
    return place.cycle(place.edited(problem, declared))


@CASES(78, "other-delimiter", Works())
def _(place: Place) -> None:
    problem = csv(place, "")
    plain = place.cycle(problem).snapshot.digest
    file = place.folder / "rows.csv"
    file.write_text(file.read_text(encoding="utf-8").replace(",", ";"), encoding="utf-8")
    assert place.cycle(problem).snapshot.digest == plain


@CASES(78, "utf-16", Refused("encoding", "rows.csv: is text in UTF-16; wanted UTF-8"))
def _(place: Place) -> Seen:
    problem = csv(place, "")
    file = place.folder / "rows.csv"
    file.write_bytes(file.read_text(encoding="utf-8").encode("utf-16"))
    return place.cycle(problem)


@CASES(78, "wrong-encoding", Refused("bad_file", "rows.csv: cannot be read: .*UTF8"))
def _(place: Place) -> Seen:
    problem = csv(place, "900,2026-02-01 10:00:00,4,käfer,1.0,1\n")
    file = place.folder / "rows.csv"
    file.write_bytes(file.read_text(encoding="utf-8").encode("latin-1"))
    return place.cycle(problem)


@CASES(78, "byte-order-mark", Works())
def _(place: Place) -> None:
    problem = csv(place, "")
    plain = place.cycle(problem).snapshot.digest
    file = place.folder / "rows.csv"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert place.cycle(problem).snapshot.digest == plain


@CASES(79, "truncated-parquet", Refused("bad_file", "rows.parquet: cannot be read"))
def _(place: Place) -> Seen:
    place.source("parquet").holds(good())
    file = place.folder / "rows.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    return place.cycle(place.problem("parquet"))


@CASES(79, "corrupt-pages", Refused("bad_file", "b.parquet: cannot be read"))
def _(place: Place) -> Seen:
    # one valid file is not enough: a pull reads all files or none
    problem = in_folder(place, {"a": {}, "b": {"parcel": lambda n: n + 300}})
    file = place.folder / "rows" / "b.parquet"
    content = bytearray(file.read_bytes())
    content[4:400] = b"\xff" * 396
    file.write_bytes(content)
    return place.cycle(problem)


def in_folder(place: Place, files: dict[str, dict[str, Any]]) -> Problem:
    """A folder of parquet files of good rows, cells of some columns changed."""
    folder = place.folder / "rows"
    folder.mkdir()
    for name, changes in files.items():
        frame = pd.DataFrame(good())
        for column, change in changes.items():
            frame[column] = change(frame[column]) if callable(change) else change
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    return place.edited(place.problem("parquet"), {"rows.parquet": "rows"})


@CASES(80, "parts-of-other-kinds", Works())
def _(place: Place) -> None:
    problem = in_folder(
        place,
        {"a": {}, "b": {"parcel": lambda n: n + 300, "weight": lambda w: w.astype("float32")}},
    )
    assert place.cycle(problem).snapshot.rows == 600


@CASES(80, "parts-of-other-columns", Refused("files_differ", "b.parquet: column 'colour' is not"))
def _(place: Place) -> Seen:
    return place.cycle(in_folder(place, {"a": {}, "b": {"colour": "red"}}))


@CASES(81, "file-replaced-while-read", Refused("source_changed", "was changed while it was read"))
def _(place: Place) -> Seen:
    place.source("csv").holds(good())
    read = file_source.file_tables

    def and_replace(*arguments: Any) -> Any:
        yield from read(*arguments)
        place.source("csv").holds(good(301))

    patch(place).setattr(file_source, "file_tables", and_replace)
    return place.cycle(place.problem("csv"))


# ---------------------------------------------------------------- our own disk


def broken_disk(place: Place, number: int) -> Problem:
    """A problem whose second pull cannot write; root may write anywhere, so writing itself is broken."""
    problem = place.problem(history='updated_at = "changed_at"')
    place.agree(problem, good(changed_at="2026-02-01 00:00:00"))
    place.cycle(problem)
    changed = {"changed_at": "2026-03-02 03:00:00", "weight": 4.25}
    place.source().holds(some(good(changed_at="2026-02-01 00:00:00"), 3, **changed))

    def write(table: pa.Table, where: Path, **_: Any) -> None:
        Path(where).write_bytes(b"half a file")
        raise OSError(number, os.strerror(number))

    patch(place).setattr(pq, "write_table", write)
    return problem


def fails_and_leaves_all(place: Place, number: int) -> Seen:
    """A pull on a broken disk; all earlier files are unchanged."""
    problem = broken_disk(place, number)
    history = open_workspace(problem.file).history(problem.name)
    before = {f: f.read_bytes() for f in history.rglob("*") if f.is_file()}
    try:
        return place.cycle(problem, AS_OF + DAY)
    finally:
        assert {f: f.read_bytes() for f in history.rglob("*") if f.is_file()} == before


# free space is not checked first: the size of a pull is not known, and half-written files are removed
@CASES(82, "disk-full", Refused("disk_full", "cannot be written: No space left on device"))
def _(place: Place) -> Seen:
    return fails_and_leaves_all(place, errno.ENOSPC)


@CASES(83, "read-only-mount", Refused("no_right", "cannot be written: Read-only file system"))
def _(place: Place) -> Seen:
    return fails_and_leaves_all(place, errno.EROFS)


@CASES(83, "no-right-to-read-a-file", Refused("no_right", "rows.csv: cannot be read"))
def _(place: Place) -> Seen:
    place.source("csv").holds(good())

    def closed(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    patch(place).setattr(pyarrow.csv, "open_csv", closed)
    return place.cycle(place.problem("csv"))


def with_role(place: Place, name: str, options: str) -> Problem:
    """The problem, read by a role of the server that has no rights."""
    server: PostgresServer = place.request.getfixturevalue("postgres")
    with server.superuser.connect() as connection:
        connection.exec_driver_sql(f"drop role if exists {name}")
        connection.exec_driver_sql(f"create role {name} login {options}")
    problem = of_postgres(place, "select * from closed", user=name)
    url = problem.history.source.replace(f"{name}@", "postgres@")
    engine = sa.create_engine(sa.make_url(url).set(username="postgres"))
    with engine.begin() as connection:
        connection.exec_driver_sql("create table closed (parcel int, sent_at timestamp, late int)")
    engine.dispose()
    return problem


@CASES(83, "no-right-to-read-a-table", Refused("no_right", "no right to read closed"))
def _(place: Place) -> Seen:
    return place.cycle(with_role(place, "may_nothing", ""))


@CASES(84, "no-connection-left", Refused("source_unreachable", "too many connections", 5))
def _(place: Place) -> Seen:
    return place.cycle(with_role(place, "no_connection", "connection limit 0"))


@CASES(84, "no-file-descriptor-left", Refused("disk", "cannot be written: Too many open files"))
def _(place: Place) -> Seen:
    return fails_and_leaves_all(place, errno.EMFILE)
