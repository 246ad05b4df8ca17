"""The command line: parse, call, print. The only place that catches errors.

A command is a module of its name with `add_arguments(parser)` and `main(arguments) -> int`, and a line in
`commands.COMMANDS`. Heavy libraries are imported inside `main`, so that `--help` answers at once.
"""
