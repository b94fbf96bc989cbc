"""What rules found in one response: some of it is masked, the strictest of the rest decides."""

from __future__ import annotations

from collections.abc import Mapping

from tocsin.guarding.ledger import STRENGTH, Ledger
from tocsin.guarding.outlet import ChannelWindow
from tocsin.guarding.plan import Guard
from tocsin.guarding.running import Running
from tocsin.model import Channel, Finding, Intervention, Score


class Findings:
    """Findings, and the masks over them.

    What is told in parts, step by step, rings once; only its verifier can say that it is one.

    Args:
        guard: the policy.
        windows: of the response, as they are opened.
        bases: by channel, where this response begins in the texts that checks count.
        ledger: the records of the response.
    """

    __slots__ = ("_bases", "_guard", "_ledger", "_rang", "_windows")

    def __init__(
        self,
        guard: Guard,
        windows: Mapping[Channel, ChannelWindow],
        bases: Mapping[Channel, int],
        ledger: Ledger,
    ) -> None:
        self._guard = guard
        self._windows = windows
        self._bases = bases
        self._ledger = ledger
        self._rang: dict[tuple[int, Channel], set[tuple[str, int]]] = {}
        """By check and channel: rules that rang, and where what they found ends so far."""

    def heed(self, running: Running, score: Score) -> tuple[Intervention, Finding] | None:
        """Do what each finding of a step asks for, short of an alarm that may end the response.

        Returns:
            The strictest intervention that is left to follow, and for what; None where none is.
        """
        if not score.findings:
            return None
        name, channel = running.check.name, score.channel
        base = self._bases.get(channel, 0)
        begun = running.upto.get(channel, 0) + base
        rang = {at for at in self._rang.get((running.index, channel), ()) if at[1] >= begun}
        worst: tuple[Intervention, Finding] | None = None
        for finding in score.findings:
            wanted = running.check.finding_does(finding)
            does = self._guard.does(wanted)
            if does == "allow":
                continue
            late = does == "mask" and not self.mask(
                channel, finding.start - base, finding.end - base, finding.rule, finding.category
            )
            if finding.goes_on and (finding.rule, finding.start) in rang:
                self._ledger.extend(name, channel, finding, late=late)
            elif does in {"shadow", "mask"}:
                self._ledger.alarm(name, score, wanted, does, finding, late=late)
            else:
                if worst is None or STRENGTH[wanted] > STRENGTH[worst[0]]:
                    worst = wanted, finding
                continue
            rang.add((finding.rule, finding.end))
        if worst is not None:
            rang.add((worst[1].rule, worst[1].end))
        self._rang[running.index, channel] = rang
        return worst

    def mask(
        self, channel: Channel, start: int, end: int, rule: str = "withheld", category: str = ""
    ) -> bool:
        """Put a marker in place of a text that was not shown; False where some of it was.

        Args:
            channel: of the text.
            start, end: its first character and the one behind its last, counted in this response.
            rule, category: what the marker may name.
        """
        window = self._windows.get(channel)
        marker = self._guard.marker.replace("{rule}", rule)
        marker = marker.replace("{category}", category or rule)
        return window is not None and window.mark(max(start, 0), end, marker)
