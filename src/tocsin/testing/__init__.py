"""What users need to test as we do: worlds with known error rates, and conformance suites."""

from tocsin.testing.verifiers import NotConformant, check_verifier
from tocsin.testing.worlds import example_calibration

__all__ = ["NotConformant", "check_verifier", "example_calibration"]
