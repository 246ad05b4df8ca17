"""The rows of every table, made once as text: terminal, report, notebook and dashboard only lay them out."""
