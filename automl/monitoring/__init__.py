"""What happens between cycles: how published predictions do, whether rows change, whether cycles end, and the alerts of all that.

pipeline     conductor: the steps of `automl monitor` on one page
watching     what its steps share
measuring    its steps: performance of generations, drift of the newest rows
realised     published predictions matched with the labels that have arrived
performance  scores with intervals, by slice, against the promise, and the likely cause
promises     what the evidence says of the next block
expected     performance before labels come
blocks       measures of blocks, from rows and from profiles that were kept
drift        measures of blocks in, alarm or none out: a pure function
freshness    ages, row counts, predictions that changed between generations
alerts       one message when something is wrong, one when it has recovered
sending      messages to addresses, within a deadline
late         whether a schedule has stopped without a word

Import from the modules: looking things up needs `promises` and `late`, and must not load scikit-learn.
"""
