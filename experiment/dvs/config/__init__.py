"""The flags of experiment/dvs/main.py."""
