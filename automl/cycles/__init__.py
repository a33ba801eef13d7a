"""What retraining and scoring share: the options of a run, the job of a cycle, its result, missed slots."""
