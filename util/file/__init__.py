"""Files that are whole or not there, and what kind they are."""
