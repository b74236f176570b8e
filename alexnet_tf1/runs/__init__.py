"""Run folders: files, lock, checkpoints, and where an interrupted run goes on."""
