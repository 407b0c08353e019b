"""What to do with a trained network: evaluate, measure, look inside, export, predict."""
