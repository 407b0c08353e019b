"""CIFAR-10, CIFAR-100 and other small images."""
