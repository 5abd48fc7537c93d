"""Benchmarks beside their peers: `bin/bench NAME [--quick] [--json]`. Ratios of one run are what they measure."""
