"""The machine a run finds: processor, memory, GPU, signals."""
