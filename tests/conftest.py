"""Hypothesis: the same examples on every run; `--hypothesis-profile prove` draws many afresh.

No test may print or log a canary: see `canaries`.
"""

from canaries import (  # noqa: F401 - hooks of pytest
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_terminal_summary,
)
from hypothesis import settings

settings.register_profile("ci", derandomize=True, max_examples=100, deadline=None)
settings.register_profile("prove", max_examples=2_000, deadline=None)
settings.load_profile("ci")
