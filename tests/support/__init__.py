"""Helpers shared by the tests: ground truth, independent implementations, comparisons."""
