"""What the experiments share beside the models: data, augmentation, run folders, checkpoints."""
