"""What the commands for a trained network share."""
