"""The same training with many steps in a session call and ops that round differently."""
