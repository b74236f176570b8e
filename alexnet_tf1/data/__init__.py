"""CIFAR-10 and its stand-in: found, downloaded, read, scaled and handed out in batches."""
