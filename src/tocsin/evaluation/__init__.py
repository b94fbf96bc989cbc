"""Compare monitors on data: files in, splits, metrics, tables and figures out."""
