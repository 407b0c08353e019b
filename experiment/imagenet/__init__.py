"""ImageNet, on one device or many."""
