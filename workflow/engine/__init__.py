"""Runs steps: which are due, on which workers, what is recorded; knows none of them by name."""
