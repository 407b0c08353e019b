"""The flags of experiment/imagenet/main.py."""
