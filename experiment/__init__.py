"""Training scripts, one folder per data set, on one engine."""
