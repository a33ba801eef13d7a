"""Addresses of alerts: no password stands in the file."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from automl.problem.operating import MonitoringSection


@pytest.mark.parametrize(
    "address",
    [
        "${OPS_ALERT_URL}",
        "json://127.0.0.1:8080/x",
        "json://ops:${OPS_PASSWORD}@host/x",
        "slack://${TOKEN}",
    ],
)
def test_references_and_addresses_without_a_password_are_accepted(address: str) -> None:
    assert MonitoringSection(alerts=(address,)).alerts == (address,)


@pytest.mark.parametrize("address", ["json://ops:secret@host", "mailto://me:pass${WORD}@host"])
def test_a_password_in_the_file_is_refused_without_showing_it(address: str) -> None:
    with pytest.raises(ValidationError, match="found a password in address 1") as caught:
        MonitoringSection(alerts=("${OTHER}", address))
    message = caught.value.errors()[0]["msg"]
    assert "secret" not in message
    assert "pass$" not in message
