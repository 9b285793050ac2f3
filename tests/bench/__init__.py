"""Compares servers side by side: `make bench`. docs/benchmarks.md says how to read the results."""
