"""The harm categories that scores, findings and alerts are named by: one table.

The hazard codes are those of the MLCommons AILuminate taxonomy, version 1.0 (S1 to S12), so that
guards that answer in these codes can be read. A category of ours may stand for several hazards,
since operators act by category; a hazard belongs to exactly one category.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Category(msgspec.Struct, frozen=True, kw_only=True):
    """One harm category.

    Args:
        id: the name used in scores, findings and policies.
        title: for people.
        hazards: MLCommons hazard codes that fall under it; empty where they know none.
    """

    id: str
    title: str
    hazards: tuple[str, ...] = ()


HAZARDS: Mapping[str, str] = {
    "S1": "violent crimes",
    "S2": "non-violent crimes",
    "S3": "sex-related crimes",
    "S4": "child sexual exploitation",
    "S5": "defamation",
    "S6": "specialised advice",
    "S7": "privacy",
    "S8": "intellectual property",
    "S9": "indiscriminate weapons (chemical, biological, radiological, nuclear, explosives)",
    "S10": "hate",
    "S11": "suicide and self-harm",
    "S12": "sexual content",
    "S13": "elections",
    "S14": "code interpreter abuse",
}
"""Codes as Llama Guard 3 and 4 and the MLCommons taxonomy number them."""

CATEGORIES: tuple[Category, ...] = (
    Category(id="harassment", title="Harassment and hate", hazards=("S5", "S10")),
    Category(id="self_harm", title="Self-harm", hazards=("S11",)),
    Category(id="violence", title="Violence and weapons", hazards=("S1", "S9")),
    Category(id="sexual", title="Sexual content", hazards=("S3", "S4", "S12")),
    Category(
        id="illegal_activity", title="Illegal activity and fraud", hazards=("S2", "S8", "S14")
    ),
    Category(id="sensitive_data", title="Secrets and personal data", hazards=("S7",)),
    Category(id="expert_advice", title="Advice that needs an expert", hazards=("S6",)),
    Category(id="disinformation", title="Disinformation", hazards=("S13",)),
    Category(id="prompt_injection", title="Instructions in data"),
    Category(id="evasion", title="Hidden or disguised text"),
    Category(id="custom", title="A rule of your own"),
)
"""Every category that there is."""

BY_ID: Mapping[str, Category] = {category.id: category for category in CATEGORIES}
BY_HAZARD: Mapping[str, str] = {
    hazard: category.id for category in CATEGORIES for hazard in category.hazards
}
"""From a hazard code to the identifier of our category.

Example:
    >>> BY_HAZARD["S11"]
    'self_harm'
"""
