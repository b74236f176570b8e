"""Finds, downloads and reads CIFAR-10 or the synthetic set, and hands out batches."""
