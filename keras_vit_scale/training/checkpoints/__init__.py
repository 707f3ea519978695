"""Checkpoints of training: exact, whole or not there, the same on every backend."""
