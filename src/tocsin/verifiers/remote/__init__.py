"""Guards, judges, process reward models and classification heads behind a URL."""

from __future__ import annotations

from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.remote.config import Config, api_key, load, parse
from tocsin.verifiers.remote.session import RemoteSession, RemoteVerifier

__all__ = ["Config", "RemoteSession", "RemoteVerifier", "api_key", "from_spec", "load", "parse"]


def from_spec(argument: str, steps: StepDefinition | None) -> RemoteVerifier:
    """Make the verifier of ``remote:CONFIG.toml``.

    Args:
        argument: path of the configuration.
        steps: what one step is; that of the configuration where None.

    Raises:
        InputError: the configuration cannot be used; with the file, the key and what to do.
        MissingExtra: aiohttp is not installed.
    """
    config = load(argument)
    return RemoteVerifier(config, steps, key=api_key(config, argument))
