"""The parts of `benchmark/gpu.py`: what is checked and measured on a GPU, each in its own process.

A part is a generator of findings: it hands over each one the moment it knows it.
"""
