"""The one place that sees adapters, tasks and reports: suites, runs, records, command line."""
