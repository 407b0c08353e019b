"""The flags of experiment/cifar/main.py."""
