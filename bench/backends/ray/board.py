"""What a driver and its tasks on a Ray cluster tell each other while runs are under way."""

from __future__ import annotations

from rankbench.bench.records import Curve


class Board:
    """An actor beside the driver: what is new of each run, and whether all are to stop."""

    def __init__(self) -> None:
        self._stopped = False
        self._news: dict[str, list[Curve]] = {}

    def tell(self, cell: str, curve: Curve) -> bool:
        """A run's steps since it told the last time; whether it is to stop."""
        self._news.setdefault(cell, []).append(curve)
        return self._stopped

    def stop(self) -> None:
        """All runs are to end after their step."""
        self._stopped = True

    def news(self) -> dict[str, list[Curve]]:
        """What was told since the last time, by run."""
        news, self._news = self._news, {}
        return news
