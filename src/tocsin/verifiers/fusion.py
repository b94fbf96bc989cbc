"""What `combined` and `cascade` share: members, a logistic of their scores, files with a digest.

A file is data, never code: strict JSON, named by the SHA-256 of its content.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from tocsin.errors import InputError
from tocsin.limits import FUSION_DEPTH_MAX, FUSION_FILE_BYTES_MAX, FUSION_MEMBERS_MAX
from tocsin.model import Context, Delta, Outcome, Score, SignalKind, Unknown
from tocsin.risk.arithmetic import SCALAR, transform
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers import registry
from tocsin.verifiers.contract import AnyVerifier, AsyncSession, AsyncVerifier, Declaration, Session
from tocsin.verifiers.reading import read_whole

_NESTED = ("combined", "cascade")
_STEEPEST = 700.0


class Logistic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """P(safe) = 1 / (1 + exp(-(intercept + sum of weight x score))).

    No weight is negative, so that a higher score never lowers the result; every operation rounds
    monotonically, so this holds to the last bit.

    Args:
        intercept: log-odds of being safe where every transformed score is 0.
        weights: one for each score, at least 0.

    Example:
        >>> model = Logistic(intercept=0.0, weights=(1.0, 0.5))
        >>> model.probability([0.0, 0.0]), round(model.probability([1.0, 2.0]), 3)
        (0.5, 0.881)
    """

    intercept: float
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what could lower the result where a score rises."""
        if not math.isfinite(self.intercept):
            raise ValueError("the intercept is not finite")
        if not self.weights or not all(0.0 <= w < math.inf for w in self.weights):
            raise ValueError("weights must be numbers of at least 0")

    def probability(self, scores: Sequence[float]) -> float:
        """Return P(safe) of one step from its transformed scores, see `transformed`."""
        z = self.intercept
        for weight, score in zip(self.weights, scores, strict=True):
            z = z + weight * score
        return 1.0 / (1.0 + math.exp(-min(max(z, -_STEEPEST), _STEEPEST)))


def transformed(kind: SignalKind, score: float) -> float:
    """Return what a `Logistic` weighs: the logit of a probability, a real score as it is.

    Args:
        kind: of the signal.
        score: one that `heard` lets through.
    """
    return float(transform(SCALAR, kind, score))


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A verifier that another one reads.

    Args:
        spec: its written form, as `tocsin.verifiers.registry.verifier` takes it; paths in it are
            relative to the folder in which the program runs.
        name, version, kind: what it declared when the file was fitted.
    """

    spec: str
    name: str
    version: str
    kind: SignalKind


class FitSummary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file was fitted on; enough to recognise it, nothing of its content.

    Args:
        digests: of the trajectories with each member's scores, as calibrations name them.
        n, n_safe, n_groups: trajectories, the safe ones among them, and groups.
        steps, steps_left_out: steps in all, and those without a score of every member.
    """

    digests: tuple[str, ...]
    n: int
    n_safe: int
    n_groups: int
    steps: int
    steps_left_out: int


class FusionFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every such file holds.

    Args:
        schema: name and version of the format.
        library_version: of Tocsin, when it was written.
        steps: what one step is, for all members alike.
        members: the verifiers that are read.
        data: what it was fitted on.
        held_out: areas under the ROC curve on groups that were not fitted on, by name.
        digest: ``sha256:...`` of everything else.
    """

    schema: str
    library_version: str
    steps: str
    members: tuple[Member, ...]
    data: FitSummary
    held_out: dict[str, float]
    digest: str = ""

    def version(self) -> str:
        """Return a digest of all that scores depend on: members' identities and numbers."""
        content = msgspec.to_builtins(self)
        for told in ("library_version", "data", "held_out", "digest"):
            del content[told]
        for member in content["members"]:
            del member["spec"]
        return _digest(content)


F = TypeVar("F", bound=FusionFile)


def seal(file: F) -> F:
    """Return the file with its digest."""
    content = msgspec.to_builtins(file)
    del content["digest"]
    return msgspec.structs.replace(file, digest=_digest(content))


def to_json(file: FusionFile) -> bytes:
    """Return the bytes of a file, for people to read."""
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def load(path: str, kind: type[F], schema: str) -> F:
    """Read a file.

    Raises:
        InputError: it cannot be read, is of another schema, or is not what its digest says.
    """
    raw = read_whole(path, FUSION_FILE_BYTES_MAX)
    try:
        found = msgspec.json.decode(raw, type=_Schema).schema
        if found != schema:
            raise InputError(f"{path!r}: schema {found!r} is not {schema!r}; fit it again")
        file = msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise InputError(f"{path!r} does not fit the schema {schema!r}: {e}") from None
    if seal(file).digest != file.digest:
        raise InputError(
            f"{path!r}: the digest does not name the content; it was changed, fit it again"
        )
    return file


def _digest(content: Any) -> str:
    return "sha256:" + hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


class _Schema(msgspec.Struct):
    schema: str


class _Spec(msgspec.Struct):
    spec: str


class _Specs(msgspec.Struct):
    members: list[_Spec]


# ---------------------------------------------------------------------------------------- members


def open_members(
    specs: Sequence[str], steps: StepDefinition | None
) -> tuple[StepDefinition, list[AnyVerifier]]:
    """Open verifiers that are to be read side by side.

    Args:
        specs: their written forms.
        steps: what one step is; where None, what all of them take of themselves.

    Raises:
        InputError: too many, nested too deeply, or with different steps or channels.
    """
    if not 2 <= len(specs) <= FUSION_MEMBERS_MAX:
        raise InputError(f"{len(specs)} members; give 2 to {FUSION_MEMBERS_MAX}")
    for spec in specs:
        _check_depth(spec, 1)
    made = [registry.verifier(spec, steps) for spec in specs]
    first = made[0].declares
    for one in made:
        if steps is not None and one.declares.steps != steps:
            raise InputError(f"{one.declares.name} scores each {one.declares.steps}, not {steps}")
        if one.declares.steps != first.steps:
            raise InputError(
                f"{first.name} scores each {first.steps}, {one.declares.name} each "
                f"{one.declares.steps}; choose one for all with --steps"
            )
        if one.declares.channels != first.channels:
            raise InputError(
                f"{first.name} scores the channels {', '.join(sorted(first.channels))}, "
                f"{one.declares.name} {', '.join(sorted(one.declares.channels))}; "
                "members must score the same ones. `channels` in the rules of patterns and "
                "onnx:injection:CHANNELS choose them"
            )
    return first.steps, made


def members_of(specs: Sequence[str], made: Sequence[AnyVerifier]) -> tuple[Member, ...]:
    """Return what a file says of its members."""
    return tuple(
        Member(spec=spec, name=d.name, version=d.version, kind=d.kind)
        for spec, d in zip(specs, (one.declares for one in made), strict=True)
    )


def reopen(file: FusionFile, path: str, steps: StepDefinition | None) -> list[AnyVerifier]:
    """Open the members of a file.

    Raises:
        InputError: other steps than it was fitted for, or a member that is not what it was.
    """
    fitted = StepDefinition.parse(file.steps)
    if steps not in (None, fitted):
        raise InputError(f"{path!r} was fitted for steps {fitted}, not {steps}; fit it again")
    specs = [member.spec for member in file.members]
    made = open_members(specs, fitted)[1]
    for then, now in zip(file.members, members_of(specs, made), strict=True):
        if then != now:
            raise InputError(
                f"{path!r}: {then.spec!r} was {then.name} {then.version} ({then.kind}) and now is "
                f"{now.name} {now.version} ({now.kind}); fit it again"
            )
    return made


def joint(declares: Sequence[Declaration], *, name: str, version: str, steps: str) -> Declaration:
    """Declare one verifier that reads several."""
    first = declares[0]
    return Declaration(
        name=f"{name}({', '.join(d.name for d in declares)})",
        version=version,
        steps=StepDefinition.parse(steps),
        channels=first.channels,
        whole_prefix=any(d.whole_prefix for d in declares),
        hold_back_chars=max(d.hold_back_chars for d in declares),
        categories=tuple(
            sorted({c for d in declares if d.kind == "probability" for c in d.categories})
        ),
    )


def _check_depth(spec: str, depth: int) -> None:
    kind, _, path = spec.partition(":")
    if kind not in _NESTED:
        return
    if depth >= FUSION_DEPTH_MAX:
        raise InputError(
            f"{spec!r} stands {depth + 1} deep in other combined verifiers and cascades, at most "
            f"{FUSION_DEPTH_MAX} are allowed; does a file name itself?"
        )
    try:
        inner = msgspec.json.decode(read_whole(path, FUSION_FILE_BYTES_MAX), type=_Specs).members
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise InputError(f"{path!r} is no file of a {kind} verifier: {e}") from None
    for member in inner[:FUSION_MEMBERS_MAX]:
        _check_depth(member.spec, depth + 1)


# --------------------------------------------------------------------------------------- sessions


@dataclass(frozen=True)
class Waited:
    """A session that answers at once, among others that have to be waited for."""

    session: Session

    async def feed(self, delta: Delta) -> list[Outcome]:
        """Take new text."""
        return self.session.feed(delta)

    async def close(self) -> list[Outcome]:
        """Give the outcomes of what is left."""
        return self.session.close()


def open_waited(member: AnyVerifier, context: Context) -> AsyncSession:
    """Open a session of any verifier, to be waited for."""
    if isinstance(member, AsyncVerifier):
        return member.open_async(context)
    return Waited(member.open(context))


async def close_all(members: Sequence[AnyVerifier]) -> None:
    """Let go of the connections of those that have any."""
    await asyncio.gather(*(one.aclose() for one in members if isinstance(one, AsyncVerifier)))


class Aligned:
    """The outcomes of several sessions side by side: a step's row, once all have spoken on it."""

    def __init__(self, members: int) -> None:
        self._waiting: list[deque[Outcome]] = [deque() for _ in range(members)]

    def take(self, answers: Sequence[Sequence[Outcome]]) -> list[tuple[Outcome, ...]]:
        """Give the rows that are complete by now."""
        for queue, new in zip(self._waiting, answers, strict=True):
            queue.extend(new)
        count = min(map(len, self._waiting))
        return [tuple(queue.popleft() for queue in self._waiting) for _ in range(count)]

    def rest(self) -> list[tuple[Outcome, ...]]:
        """Give rows in which a member is missing, at the end."""
        rows = []
        while any(self._waiting):
            rows.append(tuple(queue.popleft() for queue in self._waiting if queue))
        return rows


def fused(declares: Declaration, value: float, scores: Sequence[Score]) -> Score:
    """Make one score; harm categories are the lowest that a member gave, findings are all."""
    categories: dict[str, float] = {}
    for score in scores:
        for name, said in score.categories.items():
            if name in declares.categories and 0.0 <= said <= 1.0:
                categories[name] = min(said, categories.get(name, said))
    return Score(
        value=value,
        step=scores[0].step,
        upto=scores[0].upto,
        channel=scores[0].channel,
        categories=categories,
        findings=tuple(dict.fromkeys(f for score in scores for f in score.findings)),
    )


def heard(member: Member, said: Outcome) -> Outcome:
    """Return what a member says, where it is a score that can be weighed; else that it is none."""
    if not isinstance(said, Score):
        return unknown_like(said, member.name)
    sound = math.isfinite(said.value) and (member.kind == "real" or 0.0 <= said.value <= 1.0)
    if sound:
        return said
    return Unknown(
        reason="out_of_range",
        step=said.step,
        upto=said.upto,
        channel=said.channel,
        detail=f"{member.name}: {said.value!r} is no {member.kind} score",
    )


def same_place(outcomes: Sequence[Outcome]) -> bool:
    """Whether all speak of the same step."""
    return len({(o.step, o.upto, o.channel) for o in outcomes}) == 1


def unknown_like(outcome: Outcome, name: str) -> Unknown:
    """Say that a member has no score, with its own reason and name."""
    if isinstance(outcome, Unknown):
        detail = f"{name}: {outcome.detail}" if outcome.detail else name
        return msgspec.structs.replace(outcome, detail=detail)
    return Unknown(
        reason="failed",
        step=outcome.step,
        upto=outcome.upto,
        channel=outcome.channel,
        detail=f"{name}: members do not agree on where this step ends",
    )
