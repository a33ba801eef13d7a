"""Users' Python files as modules: tried in a process of their own, then loaded in this one.

A file may exit, hang, crash or print when it is loaded. Tried first, it does so where nothing depends on it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from automl.errors import SpaceError
from automl.problem import Problem
from automl.processes import UserCodeError, UserProcess

__all__ = ["alias_earlier_modules", "failing_files", "is_path", "load_file", "try_user_files"]

# a file that loads longer hangs, or does at import what belongs into a function
LOAD_SECONDS = 60.0

# Family files written for release 0.1, and models that carry such a file, import these names.
EARLIER_MODULES = {
    "automl.spaces": "automl.modeling.families",
    "automl.bins": "automl.modeling.lightgbm_hooks",
}


def try_user_files(problem: Problem) -> None:
    """Load the user's files of a problem in a process of their own, each within `LOAD_SECONDS`.

    Raises
    ------
    SpaceError
        A file raises, exits, crashes or hangs.
    """
    for error in failing_files(problem).values():
        raise error


def failing_files(problem: Problem) -> dict[Path, SpaceError]:
    """The user's files of a problem that raise, exit, crash or hang when they are loaded."""
    root, files = problem.file.parent, []
    for entry in problem.sweep.families:
        path = (root / entry).resolve()
        if is_path(entry) and path.is_file():
            files.append((path, f"automl_family_{path.stem}", "family", f"automl spaces {entry}"))
    columns = problem.transformer
    if columns is not None and columns.is_file():
        files.append((columns, f"automl_columns_{columns.stem}", "columns", "automl check FILE"))
    policy, _ = problem.policy_file
    if policy is not None and policy.is_file():
        files.append((policy, f"automl_policy_{policy.stem}", "policy", "automl check FILE"))
    found: dict[Path, SpaceError] = {}
    with UserProcess(prints=True) as process:
        for path, name, what, command in files:
            try:
                process.call(
                    _load, path, name, what, command, until=time.monotonic() + LOAD_SECONDS
                )
            except SpaceError as error:
                found[path] = error
            except UserCodeError as error:
                found[path] = SpaceError(
                    f"{path}: loading the file failed: {error}",
                    code=f"{what}_raises",
                    next_step=f"Fix the file, then run: {command}",
                )
    return found


def is_path(entry: str) -> bool:
    """Whether an entry of sweep.families is the path of a file, not the name of a family."""
    return "/" in entry or entry.endswith(".py")


def _load(path: Path, name: str, what: str, command: str) -> None:
    load_file(path, name, what, command)


def load_file(path: Path, name: str, what: str, command: str) -> ModuleType:
    """Load a user's Python file as a module of that name.

    Parameters
    ----------
    what
        What the file defines, for error codes.
    command
        What to type once the file is fixed.

    Raises
    ------
    SpaceError
        It is not a Python file, or it raises.
    """
    alias_earlier_modules()
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SpaceError(
            f"{path}: not a Python file",
            code=f"no_{what}",
            next_step="Name a file that ends with .py.",
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _settings_restored():
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise SpaceError(
            f"{path}: loading raised {type(error).__name__}: {error}",
            code=f"{what}_raises",
            next_step=f"Fix the file, then run: {command}",
        ) from error
    return module


def alias_earlier_modules() -> None:
    """Make modules importable by their names of release 0.1."""
    for earlier, today in EARLIER_MODULES.items():
        sys.modules.setdefault(earlier, importlib.import_module(today))


@contextmanager
def _settings_restored() -> Iterator[None]:
    """Undo what a file may change of this process: folder, warnings, what Ctrl-C does."""
    folder = Path.cwd()
    signals = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.getsignal(number) for number in signals}
    try:
        with warnings.catch_warnings():
            yield
    finally:
        with suppress(OSError):
            os.chdir(folder)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
