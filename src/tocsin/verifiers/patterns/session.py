"""The findings of one response, step by step."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from tocsin import limits
from tocsin.errors import SessionMisuse
from tocsin.model import Channel, ChannelKind, Delta, Finding, Outcome, Score
from tocsin.stream.normal_forms import forms
from tocsin.stream.steps import Segmenter, Step
from tocsin.verifiers.contract import Declaration
from tocsin.verifiers.patterns.scanner import BLOCK_CHARS, Hit
from tocsin.verifiers.patterns.views import RAW, FormView, RawView, Sets, View


class _ChannelState:
    """One channel: its steps, its views, and what they found."""

    def __init__(
        self,
        declares: Declaration,
        sets: Sets,
        without: frozenset[int],
        names: tuple[str, ...],
    ) -> None:
        self._sets = sets
        self._without = without
        self._names = names
        self._segmenter = Segmenter(declares.steps)
        self._waiting: deque[Step] = deque()
        self._hits: list[list[Hit]] = [[] for _ in (RAW, *names)]  # not begun, the next one last
        self._begun: list[list[Hit]] = [[] for _ in (RAW, *names)]  # may go on in the next step
        self._known: dict[str, list[tuple[int, int]]] = {}
        self._parts: list[str] = []  # text that no view has seen
        self._formless: list[str] = []  # text that the forms have not seen
        self._fed = 0
        self._scanned = 0
        self._least = sets.raw.settles_after
        self._closed_upto = 0
        self._views = self._new_views()

    def feed(self, delta: Delta) -> list[tuple[Step, tuple[Finding, ...]]]:
        """Take text; give the steps that are settled, with their findings."""
        found: list[tuple[Step, tuple[Finding, ...]]] = []
        # In portions: forms keep some hundred bytes for each character that they have not settled.
        for at in range(0, len(delta.text), BLOCK_CHARS):
            portion = delta.text[at : at + BLOCK_CHARS]
            self._fed += len(portion)
            self._parts.append(portion)
            self._waiting += self._segmenter.feed(portion)
            found += self._ready()
        if delta.ends is not None:
            self._waiting += self._segmenter.feed("", delta.ends)
            self._finish()
            found += self._ready()
        return found

    def close(self) -> list[tuple[Step, tuple[Finding, ...]]]:
        """Give what is left."""
        self._waiting += self._segmenter.close()
        self._finish()
        return self._ready()

    def _new_views(self) -> list[View]:
        at, without = self._fed, self._without
        made: list[View] = [RawView(self._sets.raw, without, at)]
        made += [FormView(form, self._sets.folded, without, at) for form in forms(self._names)]
        return made

    def _finish(self) -> None:
        """End the text here: no match goes over the end of a turn or of a tool call."""
        if self._closed_upto < self._fed:
            self._pour()
            self._pour_forms()
            self._search(final=True)
            self._scanned = self._closed_upto = self._fed
            self._views = self._new_views()

    def _ready(self) -> list[tuple[Step, tuple[Finding, ...]]]:
        waiting = self._waiting
        upto = self._reached(waiting[0].end) if waiting else 0
        count = 0
        for step in waiting:
            if step.end > upto:
                break
            count += 1
        if not count:
            if self._fed - self._scanned > 2 * BLOCK_CHARS:
                self._scan()
            return []
        if waiting[count - 1].end > self._scanned:
            self._scan()
        return [(step, self._findings(step)) for step in [waiting.popleft() for _ in range(count)]]

    def _reached(self, end: int) -> int:
        """Return up to where every match is settled, if that is as far as the step's end."""
        if end <= self._closed_upto:
            return self._closed_upto
        upto = self._fed - self._least
        if upto < end:
            return 0
        self._pour()
        raw, *forms = self._views
        upto = min(upto, raw.settled())
        if upto < end:
            return 0
        self._pour_forms()
        return min([upto, *(form.settled() for form in forms)])

    def _pour(self) -> None:
        """Show new text to the raw view; forms cost more, and wait until they are asked."""
        if self._parts:
            text = "".join(self._parts)
            self._parts.clear()
            self._views[0].feed(text)
            self._formless.append(text)

    def _pour_forms(self) -> None:
        if self._formless:
            text = "".join(self._formless)
            self._formless.clear()
            for view in self._views[1:]:
                view.feed(text)

    def _scan(self) -> None:
        self._pour()
        self._pour_forms()
        self._search(final=False)
        self._scanned = max(self._closed_upto, min(view.settled() for view in self._views))

    def _search(self, *, final: bool) -> None:
        for hits, view in zip(self._hits, self._views, strict=True):
            found = view.scan(final=final)
            if found:
                hits.extend(found)
                hits.sort(key=lambda hit: (hit.start, hit.head, hit.rule.id), reverse=True)

    def _findings(self, step: Step) -> tuple[Finding, ...]:
        if not any(self._hits) and not any(self._begun):
            self._known.clear()
            return ()
        found: list[Finding] = []
        self._known = {
            rule: left
            for rule, ranges in self._known.items()
            if (left := [r for r in ranges if r[1] > step.start])
        }
        views = zip((RAW, *self._names), self._hits, self._begun, strict=True)
        for name, hits, begun in views:
            while hits and hits[-1].start < step.end:
                begun.append(hits.pop())
            for hit in begun:
                self._tell(hit, name, step, found)
            begun[:] = [hit for hit in begun if hit.open or hit.end > step.end]
        return tuple(sorted(found, key=lambda f: (f.start, f.end, f.rule, f.form)))

    def _tell(self, hit: Hit, name: str, step: Step, found: list[Finding]) -> None:
        """Report what a match covers up to the end of a step, and was not reported before.

        A match belongs to the step in which it begins; what its `rest` adds belongs to the steps
        in which it lies.
        """
        first = hit.start >= step.start
        start, end = hit.told, min(hit.end, step.end)
        if first:
            end = max(end, hit.head)
            known = self._known.setdefault(hit.rule.id, [])
            hit.hidden = name != RAW and any(a < end and start < b for a, b in known)
            known.append((start, end))
        if hit.hidden or end <= start:
            return
        hit.told = end
        rule = hit.rule
        found.append(
            Finding(
                rule=rule.id,
                category=rule.category,
                start=start,
                end=end,
                form=name,
                goes_on=not first,
            )
        )


class PatternsSession:
    """The findings of one response.

    Args:
        declares: the verifier's declaration.
        sets: the rules.
        without: numbers of the rules that are not for a kind of channel.
        names: the forms of the text that are searched besides the text itself.
        severities: the score of a finding, by rule.
    """

    def __init__(
        self,
        declares: Declaration,
        sets: Sets,
        without: Mapping[ChannelKind, frozenset[int]],
        names: tuple[str, ...],
        severities: Mapping[str, float],
    ) -> None:
        self._declares = declares
        self._sets = sets
        self._without = without
        self._names = names
        self._severities = severities
        self._channels: dict[Channel, _ChannelState] = {}
        self._clean = dict.fromkeys(declares.categories, 1.0)
        self._number = 0
        self._closed = False

    def feed(self, delta: Delta) -> list[Outcome]:
        """Take new text; give the outcomes of the steps that are settled by now."""
        if self._closed:
            raise SessionMisuse("the session is closed; open a new one for the next response")
        channel = delta.channel
        state = self._channels.get(channel)
        if state is None:
            if channel.kind not in self._declares.channels:
                return []
            if len(self._channels) >= limits.CHANNELS_MAX:
                raise SessionMisuse(f"a response has at most {limits.CHANNELS_MAX} channels")
            state = _ChannelState(
                self._declares, self._sets, self._without[channel.kind], self._names
            )
            self._channels[channel] = state
        return [self._score(channel, *one) for one in state.feed(delta)]

    def close(self) -> list[Outcome]:
        """Give the outcomes of what is left."""
        self._closed = True
        return [
            self._score(channel, *one)
            for channel, state in self._channels.items()
            for one in state.close()
        ]

    def _score(self, channel: Channel, step: Step, findings: tuple[Finding, ...]) -> Score:
        self._number += 1
        value, categories = 1.0, dict(self._clean)
        for finding in findings:
            score = self._severities[finding.rule]
            value = min(value, score)
            categories[finding.category] = min(categories[finding.category], score)
        return Score(
            value=value,
            step=self._number,
            upto=step.end,
            channel=channel,
            categories=categories,
            findings=findings,
        )
