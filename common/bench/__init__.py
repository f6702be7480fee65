"""Benchmarks: what is timed, the GPU watched from outside, tables."""
