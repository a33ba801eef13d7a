"""Addresses of servers and databases: references filled in, passwords kept apart or refused where they are unclear."""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from automl.errors import ProblemError
from automl.redaction import basic, redact, remember

__all__ = ["Login", "fill_references", "refuse_unclear_password", "split_login"]

REFERENCE = re.compile(r"\$\{(\w+)\}")
# user and password as SQLAlchemy reads them: a password ends at the first @
_DATABASE = re.compile(r"[\w+.-]+://[^:/]*:[^@]*@(?P<rest>.*)", re.DOTALL)
_OPTION = re.compile(r"[?&](sslpassword|password|passwd|pwd|token)=", re.IGNORECASE)
_REFERENCES = "user:${NAME}@host, with the password in the environment variable NAME"


class Login(NamedTuple):
    """User and password of an address."""

    user: str
    password: str


def fill_references(url: str, where: str) -> str:
    """A URL of a problem file with the environment variables that it refers to.

    What stands between `://` and `@` is percent-encoded, so a variable holds a password as it is, whatever
    its letters.

    Raises
    ------
    ProblemError
        A variable is not set, or holds a whole URL whose password is unclear.
    """
    missing = [name for name in REFERENCE.findall(url) if name not in os.environ]
    if missing:
        raise ProblemError(
            f"{where}: environment variable {missing[0]} is not set",
            code="no_environment",
            next_step=f"export {missing[0]}=..., then run the same command again.",
        )
    parts = re.fullmatch(r"([\w+.-]+://)([^/@]*(?:@[^/@]*)*@)?(.*)", url, re.DOTALL)
    scheme, login, rest = (parts[1], parts[2] or "", parts[3]) if parts else ("", "", url)
    for name in REFERENCE.findall(login.partition(":")[2]):
        remember(os.environ[name])
    login = REFERENCE.sub(lambda m: quote(os.environ[m[1]], safe=""), login)
    filled = scheme + login + REFERENCE.sub(lambda m: os.environ[m[1]], rest)
    refuse_unclear_password(filled, where)
    return filled


def refuse_unclear_password(url: str, where: str) -> None:
    """Refuse a URL whose password is an option, or contains an `@` that is not percent-encoded.

    Raises
    ------
    ProblemError
        With the way to write it.
    """
    option = _OPTION.search(url)
    if option:
        raise ProblemError(
            f"{where}: found a password as the option `{option[1].lower()}=` of a URL, where logs and "
            f"error messages show it; wanted {_REFERENCES}",
            code="url",
            next_step="Move the password to its place before the host.",
        )
    parts = _DATABASE.fullmatch(url)
    if parts and "@" in parts["rest"]:
        raise ProblemError(
            f"{where}: found more than one @ in a URL with a password, so it is not clear where the "
            "password ends; wanted the password percent-encoded: %40 for @, %2F for /, %3A for :",
            code="url",
            next_step="To encode it: python -c "
            "'import getpass, urllib.parse as u; print(u.quote(getpass.getpass(), safe=\"\"))'",
        )


def split_login(uri: str, where: str) -> tuple[str, Login | None]:
    """The address of an HTTP server without user and password, and these.

    Raises
    ------
    ProblemError
        There is a user without a password, or a password as an option.
    """
    if _OPTION.search(uri):
        refuse_unclear_password(uri, where)
    scheme, _, rest = uri.partition("://")
    login, at, host = rest.rpartition("@")
    if not at:
        return uri, None
    user, colon, password = login.partition(":")
    if not colon or not password:
        remember(login)
        raise ProblemError(
            f"{where}: found a user without a password in {redact(f'{scheme}://{host}')}; wanted none there",
            code="url",
            next_step="Set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
        )
    for secret in (password, unquote(password), basic(unquote(user), unquote(password))):
        remember(secret)
    return f"{scheme}://{host}", Login(unquote(user), unquote(password))
