"""Ratios against a peer or a floor, measured in one run; see `python -m benchmarks`."""
