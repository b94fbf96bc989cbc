"""What users need to test as we do: worlds whose true error rates have a closed form."""

from tocsin.testing.worlds import example_calibration

__all__ = ["example_calibration"]
