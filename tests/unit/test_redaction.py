"""No part of a secret is shown: in messages, logs, reasons and notes, however it is spelled there."""

from __future__ import annotations

import base64
import json
import logging
import pickle
from urllib.parse import quote, quote_plus

import pytest

from automl.addresses import split_login
from automl.errors import AutomlError, UnreachableError
from automl.redaction import WithoutSecrets, redact, remember
from tests.support.secrets import SECRETS, shown_parts


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WAREHOUSE_PASSWORD", "{}"),
        ("APPPW", "{}"),
        ("MLFLOW_TRACKING_TOKEN", "{}"),
        ("AUTOML_KEY_SECRET", "{}"),
        ("AWS_SECRET_ACCESS_KEY", "{}"),
        ("WAREHOUSE", "postgresql://app:{}@host/db"),
    ],
)
def test_a_secret_of_the_environment_is_hidden_in_every_spelling(
    secret: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value.format(secret))
    tail = secret.rpartition("@")[2]
    for text in (
        f"failed to resolve host '{tail}@127.0.0.1'",
        f"cannot open postgresql://app:{secret}@host/db",
        f"postgresql://app:{quote(secret, safe='')}@host/db, or {quote_plus(secret)}",
        f"{secret!r} and {json.dumps({'password': secret})}",
        f"host={secret.lower()}.example",
        repr(OSError(2, "not found", secret)),
    ):
        assert not shown_parts(secret, redact(text)), text


def test_ordinary_words_and_folders_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWD", "/home/someone")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("PGPASSFILE", "/home/someone/.pgpass")
    monkeypatch.setenv("PASSWORD", "abc")
    monkeypatch.setenv("CI_PASSWORD", "data")
    text = "/home/someone: false, abc, database, and postgresql://me@host/db"
    assert redact(text) == text


@pytest.mark.parametrize("word", ["automl", "data", "postgres", "Error", "cycle", "2026", "true"])
def test_a_password_that_is_a_plain_word_is_hidden_only_where_a_password_stands(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_PASSWORD", word)
    monkeypatch.setenv("AUTOML_DATABASE_URL", f"postgresql://{word}:{word}@localhost/{word}")
    kept = f"next: {word} on 2 rows of {word}.toml, found '{word}' ({word})"
    assert redact(kept) == kept
    for shown in (
        f"postgresql://{word}:{{}}@localhost/{word}",
        f"login as {word}:{{}} at localhost",
        "password={} host=localhost",
        "{{'password': '{}'}}",
        '{{"password": "{}"}}',
    ):
        assert redact(shown.format(word)) == shown.format("***")


def test_a_login_is_hidden_as_http_sends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "p@TAILQJXZW")
    sent = base64.b64encode(b"bob:p@TAILQJXZW").decode()
    assert redact(f"Authorization: Basic {sent}") == "Authorization: Basic ***"
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    split_login("http://ann:sla%2FSHEDQJXZW@host", "MLFLOW_TRACKING_URI")
    sent = base64.b64encode(b"ann:sla/SHEDQJXZW").decode()
    assert sent not in redact(f"Basic {sent}")


def test_errors_hide_secrets_wherever_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    remember("TOPSECRETVALUE")
    error = UnreachableError("no TOPSECRETVALUE", next_step="give TOPSECRETVALUE")
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert (str(each), each.next_step) == ("no ***", "give ***")
    assert isinstance(error, AutomlError)


def test_log_lines_and_their_tracebacks_hide_secrets(caplog: pytest.LogCaptureFixture) -> None:
    remember("TOPSECRETVALUE")
    try:
        int("TOPSECRETVALUE")
    except ValueError:
        logging.getLogger("automl").exception("with %s", "TOPSECRETVALUE")
    line = WithoutSecrets("%(message)s").format(caplog.records[0])
    assert "TOPSECRET" not in line
    assert "Traceback" in line
