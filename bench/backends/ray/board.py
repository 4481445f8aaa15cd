"""What a driver and its tasks on a Ray cluster tell each other while runs are under way."""

from __future__ import annotations

from rankbench.bench.records import Curve


class Board:
    """An actor beside the driver: the latest step of each run, and whether all are to stop."""

    def __init__(self) -> None:
        self._stopped = False
        self._news: dict[str, Curve] = {}

    def tell(self, cell: str, curve: Curve) -> bool:
        """A run's last step, as a curve of one entry; whether it is to stop."""
        self._news[cell] = curve
        return self._stopped

    def stop(self) -> None:
        """All runs are to end after their step."""
        self._stopped = True

    def news(self) -> dict[str, Curve]:
        """What was told since the last time, by run."""
        news, self._news = self._news, {}
        return news
