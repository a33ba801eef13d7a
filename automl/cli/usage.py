"""Wrong words of a command as errors of this package: where, found, wanted, and where its help is."""

from __future__ import annotations

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from automl.errors import ProblemError

__all__ = ["usage_error"]

WANTED = {int: "a whole number", float: "a number", bool: "true or false"}


def usage_error(error: CycloptsError) -> ProblemError:
    """What is wrong with the words of a command."""
    command = " ".join(["automl", *(error.command_chain or ())])
    step = f"{command} --help shows what it takes."
    if isinstance(error, UnknownCommandError):
        step = "automl --help lists the commands."
    return ProblemError(_in_words(error, command), code="usage", next_step=step)


def _in_words(error: CycloptsError, command: str) -> str:
    text = " ".join(str(error).split())
    hint = text.partition("Did you mean")[2].partition(" Available")[0]
    meant = f". Did you mean{hint}" if hint else ""
    if isinstance(error, MissingArgumentError) and error.argument:
        return f"{command}: {_missing(error, error.argument.name)}"
    if isinstance(error, UnknownCommandError):
        return f"automl: found {(error.unused_tokens or ['?'])[0]!r}; wanted a command{meant}"
    if isinstance(error, UnknownOptionError):
        found = error.token.keyword or error.token.value
        return f"{command}: found {found}; wanted one of its options{meant}"
    if isinstance(error, UnusedCliTokensError):
        return f"{command}: found {', '.join(map(repr, error.unused_tokens or ()))}; wanted no further argument"
    if isinstance(error, CoercionError) and error.token is not None:
        choices = text.partition("Choose from: ")[2].rstrip(".").replace('"', "")
        kind = WANTED.get(error.target_type or str, "another value")
        where = error.token.keyword or (error.argument.name if error.argument else command)
        return f"{where}: found {error.token.value!r}; wanted {f'one of {choices}' if choices else kind}"
    return f"{command}: {text}"


def _missing(error: MissingArgumentError, name: str) -> str:
    if error.keyword:
        return f"{error.keyword} has no value; wanted one"
    return f"{name} is missing{': the path of a problem file' if name == 'FILE' else ''}"
