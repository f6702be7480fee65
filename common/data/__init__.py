"""Data sets: published files to rows, rows to token ids and back, samples and counts."""
