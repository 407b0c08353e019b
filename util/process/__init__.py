"""Processes, their signals and consoles, and how samples reach them."""
