"""Time and memory of a training step and its parts, each command run with python -m."""
