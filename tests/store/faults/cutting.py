"""Power cuts in number: draw images of a disk, look at each, count what was lost."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from store.faults.disk import Disk, Timeline

Look = Callable[[Path, list[bytes]], str | None]
"""Looks at the files of an image and at what the program had said by then; gives what is wrong."""


ROUNDS_MAX = 500
"""So often every position is tried, before the images that can be told apart are said to be few."""


@dataclass
class Tally:
    """What came of it.

    Attributes:
        images: looked at; no two of them alike, or with other things said before them.
        unsure: largest number of changes that were open at once.
        wrong: position and what was wrong there, for each image that was.
    """

    images: int = 0
    unsure: int = 0
    wrong: list[tuple[int, str]] = field(default_factory=list)


def cut(
    timeline: Timeline,
    folder: Path,
    look: Look,
    *,
    count: int,
    seed: int,
    enough: int | None = None,
    rubbish: bool = True,
) -> Tally:
    """Cut the power so many times, and look at what is left.

    Args:
        timeline: what the program did.
        folder: where images are written, one after the other.
        look: sees each image.
        count: of images that differ. seed: of the draw.
        enough: stop once so many are wrong.
        rubbish: whether sectors that were being written may hold some.

    Raises:
        AssertionError: there are not so many.
    """
    tally, seen = Tally(), set[bytes]()
    chance = random.Random(seed)
    for _ in range(ROUNDS_MAX):
        for place, said, disk in walk(timeline, chance, count):
            image = disk.image(chance, rubbish=rubbish)
            print_ = fingerprint(image, len(said))
            if print_ in seen:
                continue
            seen.add(print_)
            tally.images += 1
            tally.unsure = max(tally.unsure, disk.unsure)
            wrong = _look(image, folder, look, said)
            if wrong is not None:
                tally.wrong.append((place, wrong))
            if tally.images >= count or (enough is not None and len(tally.wrong) >= enough):
                return tally
    raise AssertionError(f"{tally.images} images, not {count}")


def walk(
    timeline: Timeline, chance: random.Random, count: int
) -> Iterator[tuple[int, list[bytes], Disk]]:
    """Go through the trace once: positions, what was said by then, and the disk there."""
    places = timeline.positions
    if count < len(places):
        places = sorted(chance.sample(places, count))
    disk, said, upto = Disk(timeline), list[bytes](), 0
    for place in places:
        while upto < len(timeline.said) and timeline.said[upto].begun < place:
            said.append(timeline.said[upto].data)
            upto += 1
        disk.go(place)
        yield place, said, disk


def fingerprint(image: dict[str, bytes], said: int) -> bytes:
    """Tell images apart."""
    found = hashlib.blake2b(b"%d" % said, digest_size=16)
    for name, data in sorted(image.items()):
        found.update(b"%s %d " % (name.encode(), len(data)))
        found.update(data)
    return found.digest()


def _look(image: dict[str, bytes], folder: Path, look: Look, said: list[bytes]) -> str | None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    Disk.write(image, folder)
    return look(folder, said)
