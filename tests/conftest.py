"""Hypothesis: the same examples on every run; `--hypothesis-profile prove` draws many afresh."""

from hypothesis import settings

settings.register_profile("ci", derandomize=True, max_examples=100, deadline=None)
settings.register_profile("prove", max_examples=2_000, deadline=None)
settings.load_profile("ci")
