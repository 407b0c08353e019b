"""Compiled C++ for a CPU: spikes as bytes, convolutions that skip silent ones, their gradients."""
