"""A trained model of byte n-grams: a few microseconds a token, no network, no heavy library."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from tocsin.errors import InputError
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.linear.model_file import Model, load
from tocsin.verifiers.linear.verifier import LinearVerifier
from tocsin.verifiers.reading import is_there

ENDING = ".tocsin-linear"
"""How the names of model files end."""

_CALIBRATION = ".calibration.json"
_FOLDER = Path(__file__).parent / "weights"


def shipped() -> list[str]:
    """Return the names of the models that come with the package.

    Example:
        >>> "harmful_answer" in shipped()
        True
    """
    return sorted(path.name.removesuffix(ENDING) for path in _FOLDER.glob(f"*{ENDING}"))


def demonstration(name: str) -> Path:
    """Return the file of the calibration that comes with a shipped model, to try things out.

    It was made on research data, on groups held out from training. It is a guarantee for no
    traffic but that data: calibrate on your own before you rely on it.

    Raises:
        InputError: the model comes without one.

    Example:
        >>> demonstration("harmful_answer").name
        'harmful_answer.calibration.json'
    """
    place = _FOLDER / f"{name}{_CALIBRATION}"
    if place not in demonstrations():
        known = ", ".join(place.name.removesuffix(_CALIBRATION) for place in demonstrations())
        raise InputError(f"no demonstration calibration for {name!r}; there is one for {known}")
    return place


def demonstrations() -> list[Path]:
    """Return the files of all calibrations that come with shipped models."""
    return [p for name in shipped() if (p := _FOLDER / f"{name}{_CALIBRATION}").is_file()]


def from_spec(argument: str, steps: StepDefinition | None) -> LinearVerifier:
    """Make the verifier from its written form.

    Args:
        argument: the name of a shipped model, or a file that `tocsin train` wrote.
        steps: what one step is; what the model was trained with where None.

    Raises:
        InputError: no such model, or a file that is damaged.

    Example:
        >>> from_spec("harmful_answer", StepDefinition("sentence")).declares.name
        'linear:harmful_answer'
    """
    names = shipped()
    if not argument:
        raise InputError(f"linear needs a model: linear:NAME with one of {', '.join(names)}, or "
                         "linear:FILE with a file of tocsin train")  # fmt: skip
    if argument in names:
        model, name = _shipped(argument), argument
    elif Path(argument).name != argument or is_there(argument):
        model = load(argument)
        name = model.header.task
    else:
        raise InputError(
            f"linear:{argument}: there is no such file, and no shipped model of that name; "
            f"shipped are {', '.join(names)}"
        )
    return LinearVerifier(
        model, f"linear:{name}", steps or StepDefinition.parse(model.header.steps)
    )


@lru_cache(maxsize=8)
def _shipped(name: str) -> Model:
    return load(_FOLDER / f"{name}{ENDING}")
