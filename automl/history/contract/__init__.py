"""What the columns of a problem are: kinds, classes, what may be missing; written once, checked at every pull."""

from automl.history.contract.checks import MIN_PER_CLASS, MIN_ROWS, check, check_batch, counted
from automl.history.contract.inference import accept, changes, infer
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
    "changes",
    "check",
    "check_batch",
    "contract_file",
    "counted",
    "infer",
    "load_contract",
    "save_contract",
]
