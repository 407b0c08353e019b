"""Spikes as bytes on a CPU, and convolutions that skip the silent ones: compiled C++ operators."""
