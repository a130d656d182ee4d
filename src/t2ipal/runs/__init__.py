"""Whole runs: the stages in their order, the table of methods, benchmarks."""
