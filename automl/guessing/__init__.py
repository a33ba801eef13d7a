"""What a problem file would say about a table, guessed with reasons; nothing here writes or runs anything.

frames        a DataFrame of any make as a plain table
sample        its rows, with what several guesses need
times         which column says when a row became true
targets       target, task, positive class, metric
columns       key, personal columns, columns that are known only afterwards, label delay
periods       block, as_of, horizon
guesses       all guesses about a table
guess_values  guesses as values that explain themselves
origins       where a new problem's rows come from, as typed
problem_text  guesses as a problem file
"""

from automl.guessing.frames import Table, as_table, as_times, listed, plain_column
from automl.guessing.guess_values import ARGUMENTS, Guess, Guesses, shown_value
from automl.guessing.guesses import guess
from automl.guessing.origins import Origin, open_origin
from automl.guessing.problem_text import ROW, Search, problem_text
from automl.guessing.targets import choose_target
from automl.guessing.times import choose_time

__all__ = [
    "ARGUMENTS",
    "ROW",
    "Guess",
    "Guesses",
    "Origin",
    "Search",
    "Table",
    "as_table",
    "as_times",
    "choose_target",
    "choose_time",
    "guess",
    "listed",
    "open_origin",
    "plain_column",
    "problem_text",
    "shown_value",
]
