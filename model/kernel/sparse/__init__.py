"""Convolutions of spike trains on a CPU that skip silent inputs, as a compiled C++ operator."""
