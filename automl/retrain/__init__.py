"""A retraining: `pipeline` tells its steps on one page; the other modules are what only it needs."""
