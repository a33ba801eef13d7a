"""Where rows come from: databases, files, Python callables."""
