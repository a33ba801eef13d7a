"""What becomes champion: evidence, the decision, guards, and the release that makes it effective."""
