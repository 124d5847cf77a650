"""What a study makes: configurations, songs, blocks, and what it claims, all named before the first song.

Owns `StudyDesign`, its checks beyond single values, and the drawing of the order. `reading.py` makes designs of files,
`configurations.py` knows the parameters of `Lab` that a configuration has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harmonia_lab.music.seeds import derive_rng, derive_seed
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.study.configurations import recorded

__all__ = ["CLAIMS", "TYPICAL_BLOCKS", "StudyBlock", "StudyDesign"]

CLAIMS = ("mean", "typical")
"""Which ratio a study claims: of geometric means, or of typical runs."""

LEAST_BLOCKS, TYPICAL_BLOCKS = 5, 10
"""Fewest blocks from which the ratio of means, and that of typical runs, has an interval (`analysis/intervals.py`)."""

PRIMARY_ALPHA = 0.04
"""Of the error that a comparison may make, the part of the primary column (`analysis/compare.py`)."""


@dataclass(frozen=True)
class StudyBlock:
    """One story, seed and length, made once by every configuration, in a drawn order.

    number, story: counted from 1. seconds: the songs' length. order: names of the configurations.
    """

    number: int
    story: int
    seed: int
    seconds: float
    order: tuple[str, ...]

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> StudyBlock:
        return cls(**{**plain, "order": tuple(plain["order"])})

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "order": list(self.order)}


@dataclass(frozen=True)
class StudyDesign:
    """A study, as a person wrote it.

    configurations: by name, parameters of `Lab`. stories: requests without seconds and seed. lengths: seconds.
    primary: the column of the run log that the study is about. smallest_ratio: the least ratio that matters, above 1.
    warm_up: songs of each configuration before the first block, in every session. order_seed: draws the order.
    keep_loaded: whether models stay loaded from song to song; if not, each song loads its own, apart in the log.
    keep_songs: whether the songs' folders stay; if not, their checksums do.
    """

    name: str
    configurations: dict[str, dict[str, Any]]
    stories: tuple[SongRequest, ...]
    primary: str
    seeds: tuple[int, ...] = tuple(range(10))
    lengths: tuple[float, ...] = (20.0,)
    claim: Literal["mean", "typical"] = "mean"
    smallest_ratio: float = 1.1
    warm_up: int = 1
    order_seed: int = 0
    keep_loaded: bool = True
    keep_songs: bool = True

    def blocks(self) -> list[StudyBlock]:
        """Return all blocks. Every story and length comes once before the next seed, so that a study that is stopped
        has some of each. Each order is drawn by itself."""
        cells = ((seed, seconds, story) for seed in self.seeds for seconds in self.lengths
                 for story in range(1, len(self.stories) + 1))  # fmt: skip
        return [
            StudyBlock(number, story, seed, seconds, self._drawn(number))
            for number, (seed, seconds, story) in enumerate(cells, 1)
        ]

    def _drawn(self, block: int) -> tuple[str, ...]:
        names = list(self.configurations)
        derive_rng(self.order_seed, "order", str(block)).shuffle(names)
        return tuple(names)

    def request(self, block: StudyBlock) -> SongRequest:
        """Return the request of a block's songs."""
        asked = {"seconds": block.seconds, "seed": block.seed}
        return self.stories[block.story - 1].model_copy(update=asked)

    def an_unwritten_story(self) -> SongRequest:
        """Return a story that stage 1 writes, if there is one."""
        return next((story for story in self.stories if story.metadata is None), self.stories[0])

    def warm_up_requests(self) -> Iterator[SongRequest]:
        """Yield the requests of one configuration's warm-up: the first story, with seeds of its own."""
        for index in range(self.warm_up):
            seed = derive_seed(self.order_seed, "warm-up", str(index))
            yield self.stories[0].model_copy(update={"seconds": self.lengths[0], "seed": seed})

    def cautions(self) -> list[str]:
        """Return what this design can't show, as sentences."""
        blocks, found = len(self.seeds) * len(self.lengths) * len(self.stories), []
        # Of n blocks there are 2ⁿ flips of signs, and an interval leaves out two of them at least.
        alpha, finest = PRIMARY_ALPHA / (len(self.configurations) - 1), 2 ** (1 - blocks)
        if blocks < LEAST_BLOCKS:
            found.append(f"{_counted(blocks, 'block')} can't show any difference: it takes {LEAST_BLOCKS} or more.")
        elif finest > alpha:
            found.append(f"The level of {blocks} blocks is {100 * (1 - finest):.4g} %, not {100 * (1 - alpha):.4g} %.")
        if self.claim == "typical" and blocks < TYPICAL_BLOCKS:
            found.append(
                f"The ratio of typical runs has an interval from {TYPICAL_BLOCKS} blocks on; there are {blocks}."
            )
        if self.keep_loaded and "_peak_bytes" in self.primary:
            found.append(
                f"{self.primary} counts the loaded models of every configuration. keep_loaded = false unloads them"
                " after each song."
            )
        if self.warm_up == 0:
            found.append("Without a warm-up, the first song of each configuration counts the start of its engines.")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, without secrets. `reading.from_record` reads them."""
        plain = {name: value for name, value in vars(self).items() if name not in ("configurations", "stories")}
        return {
            **plain,
            "seeds": list(self.seeds),
            "lengths": list(self.lengths),
            "configurations": {name: recorded(given) for name, given in self.configurations.items()},
            "stories": [story.model_dump(mode="json", by_alias=False, exclude_unset=True) for story in self.stories],
        }


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
