"""The command line: thin, over `tocsin.api`."""
