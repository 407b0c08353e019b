"""The parts of benchmark/faults.py: each breaks a run in one way and looks at what is left."""
