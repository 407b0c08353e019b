"""CIFAR10-DVS and other recordings of event cameras."""
