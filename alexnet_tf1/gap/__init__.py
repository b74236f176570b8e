"""The training-versus-inference gap of a run of this network: measured, explained, repaired."""
