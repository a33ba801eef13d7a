"""The contract of a problem: column kinds and classes, written at the first pull, checked at every pull."""

from automl.history.contract.checks import check, check_batch
from automl.history.contract.inference import as_kind_of, infer
from automl.history.contract.revision import accept, changes
from automl.history.contract.target import MIN_PER_CLASS, MIN_ROWS, counted
from automl.history.contract.values import (
    Contract,
    Finding,
    contract_file,
    load_contract,
    save_contract,
)

__all__ = [
    "MIN_PER_CLASS",
    "MIN_ROWS",
    "Contract",
    "Finding",
    "accept",
    "as_kind_of",
    "changes",
    "check",
    "check_batch",
    "contract_file",
    "counted",
    "infer",
    "load_contract",
    "save_contract",
]
