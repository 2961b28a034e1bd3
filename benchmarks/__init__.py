"""Programs that measure, not tests. Each writes a page into reports/benchmarks/."""
