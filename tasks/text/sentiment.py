"""Sentiment rated by people, from the data that the VADER paper published with its package.

Hutto & Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
Text", ICWSM 2014. Each text carries the mean of (mostly 20) people's ratings from -4 to 4.

Splits: texts that are equal (`tasks.data.splits.normalise`) are kept once, the first; then about 20 % test,
10 % selection and 70 % train by a hash of the text's words, so that variants in punctuation stay together,
or of the review it is taken from where the file names the review (Amazon). Movie snippets and tweets name
no review or author, so two sentences of one review may lie in different splits.
"""

from __future__ import annotations

import html
import io
import tarfile
from dataclasses import asdict
from typing import Any, NamedTuple

from rankbench.tasks.base import Head
from rankbench.tasks.data.packages import VADER, fetch_package, package_file
from rankbench.tasks.data.splits import normalise, place, split_of, words
from rankbench.tasks.options import Sizes, TaskError
from rankbench.tasks.text.encoder import EncoderTask, Item, Items

ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
NEUTRAL = 0.5
"""A movie snippet rated within ±0.5 is neither positive nor negative: left out."""


class Corpus(NamedTuple):
    """One rated file; `binary` keeps only the sign, `by_review` splits whole reviews."""

    file: str
    binary: bool
    by_review: bool


CORPORA = {
    "movie": Corpus("movieReviewSnippets_GroundTruth.txt", binary=True, by_review=False),
    "amazon": Corpus("amazonReviewSnippets_GroundTruth.txt", binary=False, by_review=True),
    "tweets": Corpus("tweets_GroundTruth.txt", binary=False, by_review=False),
}


class SentimentTask(EncoderTask):
    """`movie` (sign of the rating: accuracy), `amazon` and `tweets` (the rating: Pearson)."""

    version = 2
    licence = "MIT (the package); its data README asks to cite Hutto & Gilbert 2014 and names no other terms"
    source = f"{VADER.name} {VADER.version}, hutto_ICWSM_2014"

    def __init__(
        self,
        name: str,
        *,
        train: int | None = None,
        selection: int | None = None,
        test: int | None = None,
        max_length: int = 64,
        scoring_batch: int = 64,
    ) -> None:
        self.corpus = CORPORA[name]
        self.head = Head("sequence", 2, ("negative", "positive")) if self.corpus.binary else Head("sequence")
        self.metrics = ("accuracy",) if self.corpus.binary else ("pearson", "spearman", "mse")
        super().__init__(name, Sizes(train, selection, test, max_length, scoring_batch))

    def source_pin(self) -> dict[str, Any]:
        """The package's hash."""
        return VADER.fingerprint()

    def fetch(self) -> None:
        """Fetch and verify the package."""
        fetch_package(VADER)

    def protocol(self) -> dict[str, Any]:
        """Adds how texts were split and labelled."""
        group = "review" if self.corpus.by_review else "text's words"
        sign = f"sign of the mean rating, |rating| < {NEUTRAL} left out"
        label = sign if self.corpus.binary else "mean rating"
        return super().protocol() | {"split": f"hash of the {group}", "label": label}

    def items(self) -> Items:
        """Split by hash, each split in the order of its texts' hashes and cut to size."""
        splits: dict[str, list[Item]] = {"train": [], "selection": [], "test": []}
        for item in self._rated():
            group = item.id.split("_")[0] if self.corpus.by_review else words(item.texts[0])
            splits[split_of(group)].append(item)
        for items in splits.values():
            items.sort(key=lambda item: place(words(item.texts[0])))
        most = asdict(self.sizes)
        return Items({split: items[: most[split]] for split, items in splits.items()})

    def _rated(self) -> list[Item]:
        seen: set[str] = set()
        items = []
        for line in self._lines():
            item_id, rating, text = line.split("\t", 2)
            text = html.unescape(text).strip()
            key = normalise(text)
            value = float(rating)
            if not key or key in seen or (self.corpus.binary and abs(value) < NEUTRAL):
                continue
            seen.add(key)
            items.append(Item(item_id, (text,), float(value > 0) if self.corpus.binary else value))
        return items

    def _lines(self) -> list[str]:
        with tarfile.open(package_file(VADER, ARCHIVE)) as archive:
            member = archive.extractfile(f"hutto_ICWSM_2014/{self.corpus.file}")
            if member is None:
                raise TaskError(f"{VADER.filename} holds no {self.corpus.file}")
            return [line for line in io.TextIOWrapper(member, encoding="utf-8-sig") if line.strip()]
