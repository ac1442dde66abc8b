"""Loggers: where a finished video goes."""
