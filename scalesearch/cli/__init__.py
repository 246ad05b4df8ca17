"""The command line: parse, call, print. The only place that catches errors."""
