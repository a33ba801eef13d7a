"""Draw the pictures of the docs: the packages of `automl` from their imports, and one cycle.

    python docs/draw.py          # writes docs/pictures/architecture.svg and cycle.svg
    python docs/draw.py cycle    # prints one

`tests/project/test_docs.py` compares the files with what this prints.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

import grimp

PICTURES = Path(__file__).parent / "pictures"
ROOTS = ("automl", "flows")
# Nearly everything imports them: a bar, not arrows
FOUNDATION = ("errors", "files", "testing", "workspace")
HEAVY = (
    "prefect", "cyclopts", "fastapi", "apprise", "mlflow", "optuna", "sqlalchemy", "alembic", "dask", "matplotlib",
    "skops", "sklearn", "lightgbm", "pyarrow",
)  # fmt: skip
BOX, TALL, GAP, ROW, MARGIN = 148, 44, 14, 72, 24
FONT = 'font-family="Helvetica,Arial,sans-serif" text-anchor="middle"'
LOOKS = {  # attributes, not a style sheet: some pages that show an SVG drop its styles
    "name": f'{FONT} font-size="14" font-weight="bold" fill="#1b1f24"',
    "small": f'{FONT} font-size="11" fill="#57606a"',
    "box": 'fill="#ddf4ff" stroke="#218bff"',
    "bar": 'fill="#f6f8fa" stroke="#8c959f"',
    "place": 'fill="#dafbe1" stroke="#2da44e"',
    "line": 'fill="none" stroke="#8c959f" stroke-width="1.2"',
}
Edges = dict[str, set[str]]


def packages() -> tuple[Edges, dict[str, list[str]]]:
    """Which package imports which, and the heavy libraries that each imports itself."""
    graph = grimp.build_graph(
        *ROOTS, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    edges: Edges = {}
    libraries: dict[str, set[str]] = {}
    for module in graph.modules:
        importer = _package(module)
        if importer is None:
            continue
        edges.setdefault(importer, set())
        for imported in graph.find_modules_directly_imported_by(module):
            package = _package(imported)
            if package is not None and package != importer:
                edges[importer].add(package)
            elif imported in HEAVY:
                libraries.setdefault(importer, set()).add(imported)
    return edges, {name: sorted(found, key=HEAVY.index) for name, found in libraries.items()}


def _package(module: str) -> str | None:
    """The package of a module, as the picture names it; None outside of it."""
    root, _, rest = module.partition(".")
    if root == "flows":
        return root
    name = rest.partition(".")[0]
    return name if root == "automl" and name and name not in FOUNDATION else None


def levels(edges: Edges) -> dict[str, int]:
    """The row of each package, 0 at the bottom: one above the highest package that it imports."""
    found: dict[str, int] = {}

    def level(name: str) -> int:
        if name not in found:
            found[name] = 1 + max((level(below) for below in edges[name]), default=-1)
        return found[name]

    for name in edges:
        level(name)
    return found


def reduced(edges: Edges) -> Edges:
    """The imports that do not follow from others: what is imported through a package is left out."""

    def reach(name: str) -> set[str]:
        return edges[name].union(*(reach(below) for below in edges[name]))

    return {
        name: {b for b in below if not any(b in reach(other) for other in below - {b})}
        for name, below in edges.items()
    }


def architecture() -> str:
    """The packages in rows: every arrow leads down, to what a package imports."""
    edges, libraries = packages()
    level, arrows = levels(edges), reduced(edges)
    rows, chains = _with_waypoints(arrows, level)
    _untangle(rows, chains)
    width = max(_width(row) for row in rows) + 2 * MARGIN
    place: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        x = (width - _width(row)) / 2
        y = MARGIN + (len(rows) - 1 - number) * ROW
        for name in row:
            size = _size(name)
            place[name] = (x + size / 2, y)
            x += size + GAP
    parts = [_path([place[name] for name in chain]) for chain in chains]
    for name in sorted(edges):
        x, y = place[name]
        parts.append(_box(x - BOX / 2, y, name, ", ".join(libraries.get(name, [])) or None))
    y = MARGIN + len(rows) * ROW
    parts.append(_rect("bar", MARGIN, y, width - 2 * MARGIN, 30))
    bar = f"{', '.join(FOUNDATION)}: imported wherever needed"
    parts.append(_text(width / 2, y + 20, bar, "small"))
    return _svg(width, y + 30 + MARGIN, parts)


def _with_waypoints(
    arrows: Edges, level: Mapping[str, int]
) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of names from the bottom, and arrows as chains; a long arrow gets a waypoint in each row between."""
    rows: list[list[str]] = [[] for _ in range(max(level.values()) + 1)]
    for name in sorted(arrows):
        rows[level[name]].append(name)
    chains = []
    for name in sorted(arrows):
        for below in sorted(arrows[name]):
            between = [f"{name}>{below}@{n}" for n in range(level[name] - 1, level[below], -1)]
            for number, point in enumerate(between):
                rows[level[name] - 1 - number].append(point)
            chains.append([name, *between, below])
    return rows, chains


def _untangle(rows: list[list[str]], chains: Iterable[list[str]]) -> None:
    """Order each row by where its neighbours are, some rounds up and down."""
    pairs = [pair for chain in chains for pair in pairwise(chain)]
    for turn in range(24):
        upwards = turn % 2 == 0
        for row in rows if upwards else reversed(rows):
            where = {
                name: (position + 0.5) / len(other)
                for other in rows
                for position, name in enumerate(other)
            }
            neighbours = {
                name: [
                    where[b if upwards else a] for a, b in pairs if (a if upwards else b) == name
                ]
                for name in row
            }
            row.sort(
                key=lambda n: sum(neighbours[n]) / len(neighbours[n]) if neighbours[n] else where[n]
            )


def _size(name: str) -> int:
    return 10 if "@" in name else BOX


def _width(row: list[str]) -> float:
    return sum(map(_size, row)) + GAP * (len(row) - 1)


def _path(points: list[tuple[float, float]]) -> str:
    """A smooth line through the points: from the foot of a box to the head of another."""
    (x, y), *rest = points
    y += TALL
    steps = [f"M{x:.0f} {y:.0f}"]
    for number, (to_x, to_y) in enumerate(rest):
        middle = (y + to_y) / 2
        steps.append(f"C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y:.0f}")
        x, y = to_x, to_y
        if number < len(rest) - 1:  # straight past the boxes of this row
            y += TALL
            steps.append(f"L{x:.0f} {y:.0f}")
    return _line(" ".join(steps), (x, y), down=True)


def cycle() -> str:
    """One cycle from the source to the table, and back."""
    steps = [
        ("history", "new rows, frozen"),
        ("sweep", "families on past blocks"),
        ("decision", "evidence: promote or keep"),
        ("champion", "refit, guarded, released"),
        ("generation", "predictions, published"),
    ]
    parts, wide, y = [], 170, 60
    for number, (name, detail) in enumerate(steps):
        x = MARGIN + number * (wide + 26)
        parts.append(_box(x, y, name, detail, wide=wide))
        if number:
            across = f"M{x - 26} {y + TALL / 2:.0f} L{x} {y + TALL / 2:.0f}"
            parts.append(_line(across, (x, y + TALL / 2), down=False))
    right = MARGIN + 5 * wide + 4 * 26
    first, last = MARGIN + wide / 2, right - wide / 2
    back = f"M{last:.0f} {y} C{last:.0f} 16 {first:.0f} 16 {first:.0f} {y}"
    parts.append(_line(back, (first, y), down=True))
    middle = (MARGIN + right) / 2
    parts.append(
        _text(middle, 24, "next slot: labels have arrived, predictions get their score", "small")
    )
    notes = [
        (MARGIN, "your database or files"),
        (MARGIN + wide + 26, "Optuna, MLflow trials"),
        (MARGIN + 2 * (wide + 26), "automl why"),
        (MARGIN + 3 * (wide + 26), "MLflow registry"),
        (MARGIN + 4 * (wide + 26), "SQL table, parquet"),
    ]
    for x, text in notes:
        parts.append(_rect("place", x, y + TALL + 26, wide, 28))
        parts.append(_text(x + wide / 2, y + TALL + 44, text, "small"))
        line = f"M{x + wide / 2:.0f} {y + TALL} L{x + wide / 2:.0f} {y + TALL + 26}"
        parts.append(f'<path {LOOKS["line"]} d="{line}"/>')
    return _svg(right + MARGIN, y + TALL + 26 + 28 + MARGIN, parts)


def _box(x: float, y: float, name: str, detail: str | None, *, wide: int = BOX) -> str:
    parts = [
        _rect("box", x, y, wide, TALL),
        _text(x + wide / 2, y + (19 if detail else 27), name, "name"),
    ]
    if detail:
        parts.append(_text(x + wide / 2, y + 35, detail, "small"))
    return "\n".join(parts)


def _rect(look: str, x: float, y: float, width: float, height: float) -> str:
    size = f'x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<rect {LOOKS[look]} {size} rx="4"/>'


def _line(path: str, tip: tuple[float, float], *, down: bool) -> str:
    """A line with an arrow head at its end."""
    x, y = tip
    head = f"{x - 4:.0f},{y - 8:.0f} {x + 4:.0f},{y - 8:.0f}"
    if not down:
        head = f"{x - 8:.0f},{y - 4:.0f} {x - 8:.0f},{y + 4:.0f}"
    return (
        f'<path {LOOKS["line"]} d="{path}"/>\n'
        f'<polygon fill="#8c959f" points="{head} {x:.0f},{y:.0f}"/>'
    )


def _text(x: float, y: float, text: str, look: str) -> str:
    return f'<text {LOOKS[look]} x="{x:.0f}" y="{y:.0f}">{escape(text)}</text>'


def _svg(width: float, height: float, parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}">'
    )
    ground = f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>'
    return "\n".join([head, ground, *parts, "</svg>\n"])


DRAWN = {"architecture": architecture, "cycle": cycle}

if __name__ == "__main__":
    if sys.argv[1:]:
        sys.stdout.write(DRAWN[sys.argv[1]]())
    else:
        for name, draw in DRAWN.items():
            (PICTURES / f"{name}.svg").write_text(draw(), encoding="utf-8")
