"""The flags of the training commands: one table, and all that follows from it."""
