"""Programs that measure; none of them is a test. Each writes a page into reports/benchmarks/."""
