"""Secrets are hidden in every text that leaves this process: messages, logs, reasons, notes in MLflow.

A secret is the password of a URL, the value of an environment variable whose name says so, and what
`remember` was given. The parts of a secret between signs are hidden too: a driver that reads `p@rest` wrongly
takes `rest` for a host. A password that is a plain word or number, such as `data` or `2026`, is hidden only where
a password stands, after `:` or `=`: elsewhere it is a word of a message.
"""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote

__all__ = ["WithoutSecrets", "basic", "redact", "remember"]

HIDDEN = "***"
SHORTEST = 4  # letters; shorter parts would hide ordinary words
LONG = 10  # letters; from here on a part is also hidden inside a longer word
_PLAIN = re.compile(
    rf"[a-z]{{1,{LONG - 1}}}|[A-Z][a-z]{{1,{LONG - 2}}}|[A-Z]{{1,{LONG - 1}}}|\d{{1,{LONG - 1}}}"
)
_BEFORE = r"(?<=[:=])|(?<=[:=]['\"])|(?<=[:=] ['\"])"  # where a plain word is a password
# PGPASSWORD, MLFLOW_TRACKING_TOKEN, AUTOML_KEY_SECRET, AWS_SECRET_ACCESS_KEY, ...
_NAMES = re.compile(
    r"(PASSWORD|PASSWD|PASS|PWD|PW|SECRET|TOKEN|KEY|CREDENTIALS?)$|_SECRET_", re.IGNORECASE
)
_FOLDERS = ("PWD", "OLDPWD")
_LOGIN = re.compile(r"\s*[\w+.-]+://([^:/]*):(.*)@", re.DOTALL)
_USER = re.compile(r"(PASSWORD|PASSWD|PASS|PWD|PW)$", re.IGNORECASE)
_URL = re.compile(r"(\w[\w+.-]*://[^\s:/]*:)\S+@")
_OPTION = re.compile(r"([?&;\s](?:sslpassword|password|passwd|pwd|token)=)[^\s&;]+", re.IGNORECASE)
_remembered: set[str] = set()


def remember(secret: str) -> None:
    """Hide this text from now on."""
    _remembered.add(secret)


def redact(text: str) -> str:
    """The text with secrets replaced by `***`.

    Examples
    --------
    >>> redact("cannot reach postgresql://me:secret@host/db")
    'cannot reach postgresql://me:***@host/db'
    """
    parts = _parts(frozenset(_secrets()))
    if parts is not None:
        text = parts.sub(HIDDEN, text)
    return _OPTION.sub(rf"\1{HIDDEN}", _URL.sub(rf"\1{HIDDEN}@", text))


class WithoutSecrets(logging.Formatter):
    """Lines of a log, tracebacks included, in which secrets are hidden."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return redact(super().format(record))


def basic(user: str, password: str) -> str:
    """User and password as HTTP sends them."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _secrets() -> Iterator[str]:
    yield from _remembered
    for name, value in os.environ.items():
        if _NAMES.search(name) and name not in _FOLDERS:
            yield value
            user = os.environ.get(_USER.sub("USERNAME", name))
            yield from [basic(user, value)] if user else []
        login = _LOGIN.match(value)
        if login:
            yield login[2]
            yield basic(login[1], unquote(login[2]))
        for match in _OPTION.finditer(value):
            yield match[0].partition("=")[2]


@lru_cache(maxsize=8)
def _parts(secrets: frozenset[str]) -> re.Pattern[str] | None:
    """A pattern of every spelling of every secret, and of their parts; the longest match first."""
    plain = {s for s in secrets if _PLAIN.fullmatch(s)}
    spellings = {spelling for secret in secrets - plain for spelling in _spellings(secret)}
    found = spellings | {part for s in spellings for part in re.split(r"[\W_]+", s)}
    known = sorted((p for p in found | plain if len(p) >= SHORTEST), key=len, reverse=True)
    patterns = [_pattern(p, plain=p in plain) for p in known]
    return re.compile("|".join(patterns), re.IGNORECASE) if patterns else None


def _pattern(part: str, *, plain: bool) -> str:
    text = re.escape(part)
    if plain:
        return rf"(?:{_BEFORE}){text}(?!\w)"
    return text if len(part) >= LONG or not part.isalnum() else rf"(?<!\w){text}(?!\w)"


def _spellings(secret: str) -> set[str]:
    """A secret as it is, percent-encoded, decoded, and quoted as in Python and JSON."""
    plain = {secret, unquote(secret), secret.strip()}
    encoded = {form(s) for s in plain for form in (quote, quote_plus)}
    encoded |= {quote(s, safe="") for s in plain}
    escaped = {s.encode("unicode_escape").decode() for s in plain}
    return plain | encoded | escaped | {s.replace("'", r"\'").replace('"', r"\"") for s in plain}
