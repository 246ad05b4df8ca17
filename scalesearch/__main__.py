"""`python -m scalesearch`."""

from scalesearch.cli.main import entry

if __name__ == "__main__":
    entry()
