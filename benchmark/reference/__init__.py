"""What is measured against: the literal two-stage training, kernels' cases, a graph on a CPU."""
