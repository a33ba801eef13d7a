"""Publishing and scoring compared with what a bare script needs for the same rows.

`publish`: 1 million predictions staged, audited and pointed at in PostgreSQL, against a COPY of the same
rows, rendered by the same Arrow writer, into a table of the same columns and primary key. Both are
repeated in turn on one server; the medians count.

`score`: 5 million rows x 20 columns from parquet to parquet with a LightGBM champion of 200 trees x 31
leaves, in a process of its own, forked from one that has the libraries, whose peak memory is measured. The
bare script reads the same files batch by batch, predicts with the same champion and writes key, prediction and
probability; it freezes nothing, checks nothing and publishes nothing. It runs twice: with the champion as
it is loaded, which has one thread, and with all cores (`score_speed_over_bare_all_cores`). Imports
count for neither. A fifth of the rows is scored too: `score_linearity` is the time per row of all over
that of the fifth.

`rollback`: a batch of 1 million rows, scored by two versions, of which the former stands by. `rollback_seconds`
is from the call until readers see it; `rollback_whole_seconds` until MLflow has followed too.

    python -m benchmarks.publish [--small] [--json] [--only publish|score|rollback] [--keep]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from automl.workspace import DEFAULTS, open_workspace

for key, value in DEFAULTS.items():  # before numpy and LightGBM read the environment
    os.environ.setdefault(key, value)

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import psycopg  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.csv  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from automl import predictions  # noqa: E402
from automl.cycles.options import RunOptions  # noqa: E402
from automl.modeling.recipes import Blend, Recipe  # noqa: E402
from automl.problem import load_problem  # noqa: E402
from automl.store import Release, Store  # noqa: E402
from benchmarks.provenance import provenance  # noqa: E402
from benchmarks.published_problem import (  # noqa: E402
    AS_OF,
    LEARNED,
    make_rows,
    write_batch,
    write_problem,
)
from tests.support.postgres import open_server  # noqa: E402

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "publish.json"
REPEATS = 5


def main() -> None:
    """Measure both, print the table or the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--small", action="store_true", help="200,000 rows at most, two repeats")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=["publish", "score", "rollback"])
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/publish.json")
    args = parser.parse_args()
    rows = {"publish": 100_000, "score": 200_000, "rollback": 50_000}
    if not args.small:
        rows = {"publish": 1_000_000, "score": 5_000_000, "rollback": 1_000_000}
    runs: dict[str, Any] = {}
    if args.only in (None, "publish"):
        runs["publish"] = _publishing(rows["publish"], 2 if args.small else REPEATS)
    with tempfile.TemporaryDirectory() as place:
        champion = _champion(Path(place) / "champion") if args.only != "publish" else Path()
        if args.only in (None, "score"):
            runs["score"] = _scoring(champion, rows["score"])
        if args.only in (None, "rollback"):
            runs["rollback"] = _rolling_back(champion, rows["rollback"])
    document = _document(runs, rows)
    if args.keep:
        RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(document) + "\n" if args.json else _table(document))


# ---------------------------------------------------------------- publishing and COPY


def _publishing(rows: int, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place, open_server() as server:
        file = write_problem(Path(place), 'files = "rows/*.parquet"', "keep = 3")
        problem = load_problem(file)
        workspace = replace(open_workspace(file), database_url=server.new_database())
        store = Store(workspace)
        repeats_done: list[dict[str, float]] = []
        for week in range(repeats + 1):
            frame = _predictions(rows, week)
            bare = _copy(workspace.database_url, frame, week)
            repeats_done.append({**bare, **_publish(store, problem, frame, week)})
            print(json.dumps(repeats_done[-1]), file=sys.stderr, flush=True)
    warm = repeats_done[1:]  # the first makes the tables
    return {name: round(statistics.median(t[name] for t in warm), 3) for name in warm[0]}


def _predictions(rows: int, week: int) -> pd.DataFrame:
    rng = np.random.default_rng(week)
    start = pd.Timestamp(AS_OF.replace(tzinfo=None)) + pd.Timedelta(weeks=week)
    return pd.DataFrame(
        {
            "id": np.arange(rows) + week * rows,
            "at": start + pd.to_timedelta(np.arange(rows) * (7 * 86400 * 1000 // rows), unit="ms"),
            "prediction": rng.integers(0, 2, rows),
            "probability": rng.random(rows),
            "low": np.nan,
            "high": np.nan,
        }
    )


def _copy(url: str, frame: pd.DataFrame, week: int) -> dict[str, float]:
    """Seconds of a bare COPY, and those of writing its text."""
    stamps = {"generation": week, "model_version": 1, "run_id": "r" * 32}
    times = {"as_of": AS_OF.replace(tzinfo=None), "scored_at": AS_OF.replace(tzinfo=None)}
    types = "generation bigint, id bigint, at timestamp, prediction bigint, probability double precision, "
    types += "low double precision, high double precision, model_version integer, run_id text, as_of timestamp"
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(
            f"create table if not exists bare ({types}, scored_at timestamp, primary key (generation, id))"
        )
        connection.commit()
        started = time.monotonic()
        names = [n.split()[0] for n in f"{types}, scored_at timestamp".split(", ")]
        table = pa.Table.from_pandas(frame.assign(**stamps, **times)[names], preserve_index=False)
        text = io.BytesIO()
        pa.csv.write_csv(table, text, pa.csv.WriteOptions(include_header=False))
        rendered = time.monotonic() - started
        with connection.cursor() as cursor, cursor.copy("copy bare from stdin (format csv)") as to:
            view = text.getbuffer()
            for place in range(0, len(view), 1 << 20):
                to.write(view[place : place + (1 << 20)])
        connection.commit()
        return {"copy": time.monotonic() - started, "copy_text": rendered}


def _publish(store: Any, problem: Any, frame: pd.DataFrame, week: int) -> dict[str, float]:
    as_of = AS_OF + timedelta(weeks=week)
    release = Release(
        id=1,
        as_of=as_of,
        model_version=1,
        run_id="r" * 32,
        digests={},
        fingerprint="",
        blend=Blend.single(Recipe("x", {})),
        labels_until=as_of,
        projected=True,
    )
    with store.hold(problem.name) as hold:
        started = time.monotonic()
        window = (as_of, as_of + timedelta(weeks=1))
        generation = predictions.stage(
            store, hold, problem, release, (frame, None), window=window, batch="b", attempt=1
        )
        staged = time.monotonic()
        predictions.audit(store, problem, generation)
        audited = time.monotonic()
        with store.commit(hold) as connection:
            predictions.point(connection, store, hold, problem, generation)
        ended = time.monotonic()
    return {
        "publish": ended - started,
        "stage": staged - started,
        "audit": audited - staged,
        "point": ended - audited,
    }


# ---------------------------------------------------------------- scoring and a script


def _champion(folder: Path) -> Path:
    """A problem whose champion learned from the labelled rows; copies of it have batches to predict."""
    (folder / "rows").mkdir(parents=True)
    pq.write_table(make_rows(0, LEARNED, LEARNED, before=True), folder / "rows" / "learned.parquet")
    _run("retrain", write_problem(folder, 'files = "rows/*.parquet"', "keep = 3"))
    return folder


def _scoring(champion: Path, rows: int) -> dict[str, Any]:
    file = write_batch(champion, "whole", rows, 'parquet = "out"')
    seconds = {what: _run(what, file) for what in ("bare", "bare-all-cores", "score")}
    fifth = _run("score", write_batch(champion, "fifth", rows // 5, 'parquet = "out"'))
    return {**seconds, "same": _compare(file.parent), "fifth": fifth}


def _rolling_back(champion: Path, rows: int) -> dict[str, Any]:
    """Score one batch with two versions, the first of which stands by; roll back to it."""
    file = write_batch(champion, "both", rows, "keep = 3")
    for what in ("score", "again"):
        _run(what, file)
    return _run("rollback", file)


def _run(what: str, file: Path) -> dict[str, Any]:
    """Run one part in a process of its own."""
    context = get_context("forkserver")
    context.set_forkserver_preload(
        ["automl.score.pipeline", "automl.review", "lightgbm", "mlflow.sklearn"]
    )
    with ProcessPoolExecutor(1, context) as pool:
        result = pool.submit(_child, what, file).result()
    print(json.dumps({what: result}), file=sys.stderr, flush=True)
    return result


def _child(what: str, file: Path) -> dict[str, Any]:
    from automl.retrain import retrain
    from automl.score import cycle, score

    problem = load_problem(file)
    workspace = open_workspace(problem.file)
    if what == "rollback":
        return _undo(problem, workspace)
    started = time.monotonic()
    rows = 0
    if what == "again":
        options = RunOptions(as_of=AS_OF, again=True, reason="another version")
        rows = cycle(problem, workspace, options).rows or 0
    elif what == "retrain":
        retrain(problem, workspace, RunOptions(as_of=AS_OF))
    elif what == "score":
        rows = score(problem, workspace, RunOptions(as_of=AS_OF)).rows or 0
    else:
        rows = _bare(problem.file.parent, 1 if what == "bare" else os.cpu_count() or 1)
    return {"seconds": time.monotonic() - started, "rows": rows, "peak_gb": _peak()}


def _undo(problem: Any, workspace: Any) -> dict[str, Any]:
    """Seconds of a rollback until readers see it, and until everything has followed."""
    from automl import review

    seen: list[float] = []
    follow = review._follow

    def followed(session: Any) -> list[str]:
        seen.append(time.monotonic())
        return follow(session)

    review._follow = followed
    started = time.monotonic()
    done = review.rollback(problem, workspace, "measured")
    ended = time.monotonic()
    return {"seconds": seen[0] - started, "whole_seconds": ended - started, "rows": done.rows}


def _bare(folder: Path, threads: int) -> int:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder / '.automl' / 'mlflow.db'}")
    model = mlflow.sklearn.load_model("models:/publish@champion")
    for pipeline in getattr(model, "estimators_", [model]):
        pipeline.steps[-1][1].set_params(n_jobs=threads)
    rows = 0
    writer = None
    for file in sorted((folder / "rows").glob("batch-*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(batch_size=131_072):
            frame = batch.to_pandas()
            chance = model.predict_proba(frame[list(model.feature_names_in_)])[:, 1]
            columns = {"id": frame["id"], "prediction": (chance > 0.5).astype(int)}
            table = pa.table({**columns, "probability": chance})
            writer = writer or pq.ParquetWriter(folder / "bare.parquet", table.schema)
            writer.write_table(table)
            rows += len(table)
    if writer is not None:
        writer.close()
    return rows


def _compare(folder: Path) -> dict[str, Any]:
    """How many published probabilities are those of the bare script, to the last bit."""
    published = (
        predictions.read_predictions(folder / "out").set_index("id")["probability"].sort_index()
    )
    bare = pd.read_parquet(folder / "bare.parquet").set_index("id")["probability"].sort_index()
    return {"rows": len(published), "equal": int((published == bare).sum())}


def _peak() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(x for x in status.splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6


# ---------------------------------------------------------------- the document


def _figures(runs: dict[str, Any]) -> Iterator[tuple[str, float]]:
    if "publish" in runs:
        yield "publish_over_copy", round(runs["publish"]["publish"] / runs["publish"]["copy"], 3)
    if "score" in runs:
        ours = runs["score"]["score"]
        for bare in ("bare", "bare-all-cores"):
            name = f"score_speed_over_{bare.replace('-', '_')}"
            yield name, round(runs["score"][bare]["seconds"] / ours["seconds"], 3)
        yield "peak_gb", round(ours["peak_gb"], 3)
        each = [run["seconds"] / run["rows"] for run in (ours, runs["score"]["fifth"])]
        yield "score_linearity", round(each[0] / each[1], 3)
    if "rollback" in runs:
        yield "rollback_seconds", round(runs["rollback"]["seconds"], 3)
        yield "rollback_whole_seconds", round(runs["rollback"]["whole_seconds"], 3)


def _document(runs: dict[str, Any], rows: dict[str, int]) -> dict[str, Any]:
    return {
        **provenance("publish"),
        "rows": {name: rows[name] for name in runs},
        "figures": dict(_figures(runs)),
        "runs": runs,
    }


def _table(document: dict[str, Any]) -> str:
    lines = [f"{name:34}{value:>8}" for name, value in document["figures"].items()]
    rows = ", ".join(f"{name} {count:,} rows" for name, count in document["rows"].items())
    return "\n".join([f"{rows}; {document['cores']} cores", "", *lines]) + "\n"


if __name__ == "__main__":
    main()
