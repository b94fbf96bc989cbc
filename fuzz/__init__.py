"""Fuzz targets: what holds for every input, and the inputs that were once a surprise."""
