"""What models are made of: families, recipes, splits, metrics, features, ensembles, and the fits themselves."""
