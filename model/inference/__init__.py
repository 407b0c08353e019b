"""Trained networks at work: without branches, batch norms folded, one time step at a time."""
