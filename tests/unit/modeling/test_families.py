"""Family files are loaded, or refused with a clear message."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from automl.errors import SpaceError
from automl.modeling.families import Family, load_families, load_family, load_retired
from automl.problem import family_folder, family_names

FAMILY = '''"""Mine: says nothing. Second sentence."""
from automl import Family

class Mine:
    """An estimator of the user's own."""

family = Family(name="{name}", short="mine", tasks={{"binary"}}, encoding="trees", start=[(1, {{}})],
                space=lambda trial, shape: {{}}, build=lambda params, shape, seed: Mine())
'''


@pytest.mark.parametrize("name", family_names())
def test_a_shipped_family_is_loaded_by_name_and_by_path(name: str, tmp_path: Path) -> None:
    by_name, by_path = (
        load_family(name, tmp_path),
        load_family(str(family_folder() / f"{name}.py"), tmp_path),
    )
    assert by_name.name == by_path.name == name
    assert by_name.path == by_path.path == family_folder() / f"{name}.py"
    assert by_name.doc


def test_a_family_file_is_found_next_to_the_problem_and_its_classes_can_be_pickled(
    tmp_path: Path,
) -> None:
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "my_idea.py").write_text(FAMILY.format(name="idea"), encoding="utf-8")
    family = load_family("families/my_idea.py", tmp_path)
    assert isinstance(family, Family)
    assert (family.name, family.doc, family.module) == (
        "idea",
        "Mine: says nothing. Second sentence.",
        "automl_family_my_idea",
    )
    assert type(pickle.loads(pickle.dumps(family.build({}, None, 0)))).__module__ == family.module  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "code", "error"),
    [
        (None, "no_family", r"broken\.py: no family file at .*broken\.py"),
        (
            "import nowhere_to_be_found",
            "family_raises",
            r"loading raised ModuleNotFoundError: .*nowhere_to_be_found",
        ),
        ("def f(:", "family_raises", "loading raised SyntaxError"),
        ("1 / 0", "family_raises", "loading raised ZeroDivisionError"),
        ("famly = 1", "no_family", r"found no `family = Family"),
        ("family = 'linear'", "no_family", r"found no `family = Family"),
        (
            FAMILY.format(name="half").replace("space=", "share=len, space="),
            "share_alone",
            "only one of share and fit_shared; wanted both or neither",
        ),
    ],
)
def test_a_family_file_that_cannot_be_used_is_refused(
    tmp_path: Path, content: str | None, code: str, error: str
) -> None:
    if content is not None:
        (tmp_path / "broken.py").write_text(content, encoding="utf-8")
    with pytest.raises(SpaceError, match=error) as caught:
        load_family("broken.py", tmp_path)
    assert caught.value.code == code


def test_a_family_file_that_raises_leaves_no_module_behind(tmp_path: Path) -> None:
    (tmp_path / "half_done.py").write_text("1 / 0", encoding="utf-8")
    with pytest.raises(SpaceError, match="ZeroDivisionError") as caught:
        load_family("half_done.py", tmp_path)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "automl_family_half_done" not in sys.modules


def test_families_keep_the_order_of_the_problem_file(tmp_path: Path) -> None:
    assert list(load_families(["mlp", "baseline", "linear"], tmp_path)) == [
        "mlp",
        "baseline",
        "linear",
    ]


@pytest.mark.parametrize(
    ("file", "name", "error"),
    [
        ("mine.py", "baseline", r"mine\.py: family 'baseline' is also defined by .*baseline\.py"),
        (
            "baseline.py",
            "mine",
            r"a file of the same name is already loaded, .*search_spaces/baseline\.py",
        ),
    ],
)
def test_two_families_that_could_be_mixed_up_are_refused(
    tmp_path: Path, file: str, name: str, error: str
) -> None:
    (tmp_path / file).write_text(FAMILY.format(name=name), encoding="utf-8")
    with pytest.raises(SpaceError, match=error) as caught:
        load_families(["baseline", f"./{file}"], tmp_path)
    assert caught.value.code == "family_twice"


@pytest.mark.parametrize(
    ("entry", "module", "reason"),
    [
        ("gone.py", "other", "no family file"),
        ("mine.py", "mine", "a file of the same name"),
        ("broken.py", "other", "SyntaxError"),
        ("needing.py", "other", "needs no_such_module"),
    ],
)
def test_a_family_that_is_no_longer_offered_is_loaded_if_it_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, entry: str, module: str, reason: str
) -> None:
    (tmp_path / "mine.py").write_text(FAMILY.format(name="mine"), encoding="utf-8")
    (tmp_path / "broken.py").write_text("family =", encoding="utf-8")
    needing = FAMILY.format(name="needing").replace("start=", 'needs=["no_such_module"], start=')
    (tmp_path / "needing.py").write_text(needing, encoding="utf-8")
    offered = {module: replace(load_family("linear", tmp_path), path=tmp_path / f"{module}.py")}

    found = load_retired({"linear": "linear", "x": entry}, tmp_path, offered)

    assert {name: f.offered for name, f in found.items()} == {"linear": False}
    assert reason in caplog.text
