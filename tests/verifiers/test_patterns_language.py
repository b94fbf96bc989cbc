"""The language of rules: bounds that hold, and one meaning in both engines."""

import random

import pytest

from tocsin.errors import InputError
from tocsin.model import Context, Delta, Finding, Score
from tocsin.verifiers.patterns import Patterns, Rule, engines
from tocsin.verifiers.patterns.compiled import Ready
from tocsin.verifiers.patterns.language import BREAKS, PatternError, literal, parse, parse_class

ATOMS = (
    "a", "b", "k", "s", "I", "é", "ß", "Ω", "東", "7", "_", "-", "@", " ", "\\n", "\\.", ".", "\\d",
    "\\w", "\\s", "\\S", "\\D", "\\W", "[ab]", "[^a]", "[\\w-]", "[^\\s@]", "[а-я]",
    "[k-s]",
    "[^\\d\\n]", "\\x{200b}", "\\x41", "[\\x{e000}-\\x{10ffff}]", "[.]", "\\\\", "[\\]]",
)  # fmt: skip
TEXT = (
    "a", "b", "k", "K", "s", "S", "\u212a", "ſ", "i", "I",
    "ı", "İ", "é", "É", "ß", "ẞ", "Ω",
    "\u2126",
    "ω", "東", "7", "٣", "_", "-", "@", " ", "\n", "\r", "\t", "\x0b", "\x0c", "\x1c",
    "\x85", "\xa0",
    "\u2028", ".", "\\", "]", "я", "Я", "\u200b", "A", "\ue000", "\U0010ffff", "\x00",
    "\ud800", "?",
)  # fmt: skip


def pattern(rng: random.Random, depth: int = 0) -> str:
    """Write a pattern; not all of them are within the language."""
    made = []
    for _ in range(rng.randrange(1, 4)):
        drawn = rng.random()
        if drawn < 0.2 and depth < 2:
            part = f"({rng.choice(('', '?:'))}{pattern(rng, depth + 1)}|{pattern(rng, depth + 1)})"
        elif drawn < 0.27:
            made.append("\\b")
            continue
        else:
            part = rng.choice(ATOMS)
        made.append(part + rng.choice(("", "", "", "?", "{2}", "{1,3}", "{0,2}")))
    return "".join(made)


def usable(rng: random.Random, count: int) -> list[Rule]:
    found: list[Rule] = []
    while len(found) < count:
        text = ("(?i)" if rng.random() < 0.4 else "") + pattern(rng)
        try:
            engines.triggers([parse(text).text], "hyperscan")
        except (PatternError, InputError):
            continue  # Hyperscan refuses what can never match
        found.append(Rule(id=f"r{len(found)}", pattern=text))
    return found


def found_by(made: Patterns, text: str, size: int) -> list[Finding]:
    session = made.open(Context())
    out = [
        o for i in range(0, len(text), size) for o in session.feed(Delta(text=text[i : i + size]))
    ]
    return [f for o in out + session.close() if isinstance(o, Score) for f in o.findings]


def compare(rounds: int, seed: int) -> int:
    rng = random.Random(seed)
    compared = 0
    for _ in range(rounds):
        listed = usable(rng, 25)
        fast = Patterns(listed, forms=(), engine="hyperscan")
        safe = Patterns(listed, forms=(), engine="re2")
        by_id = {rule.id: rule.shape() for rule in listed}
        for _ in range(12):
            text = "".join(rng.choice(TEXT) for _ in range(rng.randrange(1, 90)))
            found = found_by(fast, text, rng.randrange(1, 40))
            assert found == found_by(safe, text, 90), (text, listed)
            for f in found:
                shape = by_id[f.rule]
                value = text[f.start : f.end]
                assert shape.low <= len(value) <= shape.high
                assert shape.breaks or not set(value) & set(BREAKS)
            compared += len(found)
    return compared


def test_rules_of_users_mean_the_same_in_both_engines_and_keep_their_bounds() -> None:
    assert compare(6, 1) > 1_000


@pytest.mark.slow
def test_a_thousand_rules_of_users_mean_the_same_in_both_engines() -> None:
    assert compare(40, 2) > 10_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("a*", "no bound"),
        ("a+", "no bound"),
        ("a{3,}", "no bound"),
        ("a{,3}", "needs numbers"),
        ("a{3,2}", "least first"),
        ("a{2000}", "1000"),
        ("a{1000}", "held back"),
        ("a??", "repeat of a repeat"),
        ("a{1,2}?", "repeat of a repeat"),
        ("?a", "repeats nothing"),
        ("a$", "in a stream"),
        ("(?P<n>a)", "a group is"),
        ("(?!a)b", "a group is"),
        ("a(?i)b", "a group is"),
        ("[]a]", "an empty class"),
        ("[a", "ends too early"),
        ("[z-a]", "backwards"),
        ("[[:alpha:]]", "write \\["),
        ("\\pL", "not known"),
        ("\\Qa\\E", "not known"),
        ("\\xzz", "code point"),
        ("\\x{d800}", "code point"),
        ("\\b", "empty text"),
        ("\\b?a", "cannot be repeated"),
        ("a\\", "ends too early"),
        ("(" * 30 + "a" + ")" * 30, "too deeply"),
    ],
)
def test_what_is_outside_of_the_language_is_refused_with_a_reason(text: str, says: str) -> None:
    with pytest.raises(PatternError) as caught:
        parse(text)
    assert says in str(caught.value)


def test_a_literal_matches_itself_and_nothing_else() -> None:
    for c in [chr(i) for i in range(128)] + ["é", "東", "\U0001f600"]:
        ready = Ready(Rule(id="x", pattern=literal(c)), fold=False)
        found = ready.search(c.encode(), 0, len(c.encode()))
        assert found is not None and found.span() == (0, len(c.encode()))
        assert ready.search(b"~" if c != "~" else b"!", 0, 1) is None


def test_a_class_is_one_class_and_nothing_more() -> None:
    assert parse_class("[a-c]") == "[a-c]"
    for text in ("a", "[a]b", "[a]{2}", "[a][b]", ""):
        with pytest.raises(PatternError):
            parse_class(text)
