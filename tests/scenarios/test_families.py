"""Every shipped family passes the family check; for a bad family it names the mistake."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from automl.diagnostics.family import Findings, check_family
from automl.errors import SpaceError
from automl.modeling.families import Shape, load_family
from automl.problem import family_folder, family_names
from automl.promotion.guards.checks import LARGEST

DOCS = Path(__file__).parents[2] / "docs"

GOOD = """
\"\"\"Ridge: a line.\"\"\"
from automl import Family


def space(trial, shape):
    return {"alpha": trial.suggest_float("alpha", 0.1, 10.0, log=True)}


def build(params, shape, seed):
    from sklearn.linear_model import Ridge

    return Ridge(**params)


family = Family(name="mine", short="mine", tasks={"regression"}, encoding="dense",
                start=[(1, {"alpha": 1.0})], space=space, build=build)
"""

UNWEIGHTED = """class Unweighted(Ridge):
        def fit(self, X, y, sample_weight=None):
            return super().fit(X, y)

    return Unweighted(**params)"""

EARLY = (
    GOOD.replace('{"alpha": trial.suggest_float("alpha", 0.1, 10.0, log=True)}', '{"max_iter": 5}')
    .replace("Ridge(**params)", "SGDRegressor(**params, random_state=seed)")
    .replace("import Ridge", "import SGDRegressor")
    .replace('{"alpha": 1.0}', "{}")
    .replace(
        "family = Family(",
        "def fit(estimator, X, y, X_val, y_val, weights):\n"
        "    assert len(X_val) and len(weights) == len(X)\n"
        "    estimator.fit(X, y, sample_weight=weights)\n"
        '    return {"max_iter": 7}\n\n\n'
        "family = Family(fit=fit, ",
    )
)


SHARING = GOOD.replace(
    "family = Family(",
    "def share(X, y, shape, seed):\n    return X, y\n\n\n"
    "def fit_shared(params, shape, seed, shared, weights):\n"
    "    return build(params, shape, seed).fit(*shared, sample_weight=weights)\n\n\n"
    "family = Family(share=share, fit_shared=fit_shared, ",
)


def _failed(findings: Findings) -> dict[str, str]:
    return {c.name: c.found for c in findings.checks if not c.passed}


def _write(folder: Path, text: str) -> str:
    (folder / "mine.py").write_text(text, encoding="utf-8")
    return "./mine.py"


@pytest.mark.parametrize("name", family_names())
def test_shipped_families_pass_and_are_short(name: str, tmp_path: Path) -> None:
    findings = check_family(name, tmp_path)
    assert _failed(findings) == {}
    assert findings.family.name == name
    lines = (family_folder() / f"{name}.py").read_text(encoding="utf-8").splitlines()
    assert 25 <= len(lines) <= 60


@pytest.mark.parametrize("classes", [0, 2, 3, 6, 30, 200])
def test_extra_trees_stay_below_the_size_limit_of_a_release(classes: int) -> None:
    family = load_family(str(family_folder() / "extra_trees.py"), family_folder())
    task = "multiclass" if classes > 2 else "binary" if classes else "regression"
    trees = family.build({}, Shape(rows=10**6, columns=20, classes=classes, task=task), 0)
    node = 64 + 8 * max(1, classes)  # bytes: scikit-learn's node, and a float for every class
    assert trees.n_estimators * 2 * trees.max_leaf_nodes * node < 0.7e6 * LARGEST


def test_every_range_has_a_reason_on_its_line_or_above(tmp_path: Path) -> None:
    for name in family_names():
        lines = (family_folder() / f"{name}.py").read_text(encoding="utf-8").splitlines()
        for above, line in itertools.pairwise(lines):
            if "trial.suggest_" in line:
                assert "#" in line or "#" in above, f"{name}: {line.strip()}"


def test_the_family_in_the_docs_passes(tmp_path: Path) -> None:
    block = re.search(r"```python\n(.*?)```", (DOCS / "families.md").read_text(), re.DOTALL)
    assert block is not None
    assert len(block[1].splitlines()) < 60
    assert _failed(check_family(_write(tmp_path, block[1]), tmp_path)) == {}


def test_an_early_stopping_family_is_fitted_again_with_what_it_learned(tmp_path: Path) -> None:
    assert _failed(check_family(_write(tmp_path, EARLY), tmp_path)) == {}


def test_a_family_may_share_columns_between_trials(tmp_path: Path) -> None:
    assert _failed(check_family(_write(tmp_path, SHARING), tmp_path)) == {}
    without_weights = SHARING.replace("sample_weight=weights", "sample_weight=None")
    failed = _failed(check_family(_write(tmp_path, without_weights), tmp_path))
    [(name, found)] = failed.items()
    assert "shared columns" in name
    assert "fit_shared() and the estimator differ by up to" in found


def test_the_first_start_point_may_set_recency(tmp_path: Path) -> None:
    text = GOOD.replace('{"alpha": 1.0}', '{"alpha": 1.0, "half_life": 0.25}')
    assert _failed(check_family(_write(tmp_path, text), tmp_path)) == {}


@pytest.mark.parametrize(
    ("old", "new", "check", "found"),
    [
        (
            "return Ridge(**params)",
            UNWEIGHTED,
            "row weights",
            "found the same predictions",
        ),
        (
            '{"alpha": 1.0}',
            '{"alpha": 100.0}',
            "start points",
            "alpha = 100.0 is outside 0.1 to 10, log",
        ),
        ('{"alpha": 1.0}', '{"alfa": 1.0}', "start points", "'alfa' is not suggested"),
        ("0.1, 10.0", "0.1 + len(trial.study.trials), 500.0", "draws", "range changed"),
        ("0.1, 10.0", "10.0, 0.1", "draws", "ValueError"),
        ("Ridge(**params)", "Ridge(**params, wrong=1)", "draws", "unexpected keyword"),
        ("return Ridge(**params)", "return None", "fit and predict", "AttributeError"),
        (
            "return Ridge(**params)",
            "import random; return Ridge(alpha=random.random())",
            "same seed",
            "differ",
        ),
    ],
)
def test_the_mistake_of_a_bad_family_is_named(
    tmp_path: Path, old: str, new: str, check: str, found: str
) -> None:
    assert old in GOOD
    failed = _failed(check_family(_write(tmp_path, GOOD.replace(old, new)), tmp_path))
    assert any(check in name and found in text for name, text in failed.items()), failed


def test_an_estimator_outside_the_allow_list_is_refused_by_name(tmp_path: Path) -> None:
    text = GOOD.replace(
        "return Ridge(**params)", "r = Ridge(**params); r.extra_ = Path('x'); return r"
    )
    text = text.replace(
        "from automl import Family", "from pathlib import Path\n\nfrom automl import Family"
    )
    failed = _failed(check_family(_write(tmp_path, text), tmp_path))
    assert any("MLflow" in name and "pathlib" in found for name, found in failed.items()), failed


def test_a_family_is_loaded_under_a_name_that_shadows_no_library(tmp_path: Path) -> None:
    assert load_family("lightgbm", tmp_path).module == "automl_family_lightgbm"
    with pytest.raises(SpaceError, match="no family file"):
        load_family("no_such_family", tmp_path)
