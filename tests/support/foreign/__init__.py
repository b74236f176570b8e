"""Small models as other people write them, each trained right and with its faults."""
