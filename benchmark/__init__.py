"""Side-by-side measurements, each a command: step, profile, gpu."""
