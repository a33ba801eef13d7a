"""What retraining and scoring share: options of a run, steps, the job of a cycle, its result, missed slots."""
