"""The parts of `benchmark.speed.gpu`: what is checked and measured on a GPU, each in a process.

A part is a generator of findings: it hands over each one the moment it knows it.
"""
