"""Recordings of event cameras: archives, AEDAT files, and simulated ones."""
