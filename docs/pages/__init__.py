"""The generated pages, each in a file of its own; `docs/generate.py` writes them."""
