"""Training scripts, one folder per data set, on one engine."""

from util.file.cache_folder import settle_cache_folder

settle_cache_folder()  # before anything here imports torchvision
