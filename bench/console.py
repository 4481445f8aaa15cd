"""What a console is told: any characters on one that is not UTF-8, and how far a suite has come."""

from __future__ import annotations

import codecs
import io
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rankbench.bench.records import Curve

PLAIN = {
    "–": "-", "—": "-", "−": "-", "×": "x", "±": "+/-", "·": "*", "…": "...", "→": "->", "≤": "<=", "≥": ">=",
    "≈": "~", "²": "^2", "⁻": "^-", "ᵀ": "^T", "‖": "||", "“": '"', "”": '"', "‘": "'", "’": "'",
    "\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ", "\N{THIN SPACE}": " ",
}  # fmt: skip
"""What our output uses; anything else (a name in another script) is shown as its escape."""

HANDLER = "rankbench-plain"


def print_anywhere() -> None:
    """Let the two standard streams replace what their encoding does not have. Files are not concerned:
    they are written as UTF-8."""
    codecs.register_error(HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unknown = error.object[error.start : error.end]
    shown = "".join(
        PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in unknown
    )
    return shown, error.end


LINE_SECONDS = 30.0
"""Between two plain lines about one run."""

FAILED = "FAILED"
"""How the outcome of what failed begins: a terminal shows it for good."""

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
"""Without tqdm's own estimate, which knows nothing of runs under way."""


class Progress:
    """Counts runs, names those that are under way, and estimates what is left from what is done of all."""

    def __init__(self, total: int) -> None:
        from tqdm import tqdm  # not before `--help` is answered

        self.total = total
        self.done = 0
        self.started = time.monotonic()
        self._bar = tqdm(total=total, dynamic_ncols=True, bar_format=BAR, disable=not sys.stderr.isatty())
        self._shown_at = 0.0
        self._under_way: dict[str, tuple[int, int]] = {}
        """Cell -> steps done, and to be done."""
        self._found = 0.0
        """Of what is done, in runs: what others have done, or an earlier command that was interrupted."""

    def expect(self, more: int) -> None:
        """There are so many runs more."""
        self.total += more
        self._bar.total = self.total
        self._bar.refresh()

    def begin(self, cell: str) -> None:
        """A run starts."""
        self.cell = cell
        self._shown_at = time.monotonic()
        if not self.done and not self._under_way:  # what came before, checks and the like, says nothing
            self.started = self._shown_at
        if not self._under_way:
            self._bar.set_description(cell)

    def tick(self, cell: str, curve: Curve, steps: int) -> None:
        """A step of a run is done; `steps` is how many it has. Those before the first told were there."""
        if cell not in self._under_way:
            self._found += (curve.step[-1] - 1) / steps
        self._under_way[cell] = curve.step[-1], steps
        text = f"step {curve.step[-1]}/{steps} loss {curve.loss[-1]:.4f}"
        if not self._bar.disable:
            if several := len(self._under_way) > 1:
                text = ", ".join(f"{cell} {step}/{of}" for cell, (step, of) in self._under_way.items())
            self._bar.set_description(f"{len(self._under_way)} runs" if several else cell, refresh=False)
            told = f"{self._left()}, {text}"
            self._bar.set_postfix_str(told, refresh=time.monotonic() - self._shown_at > 0.2)
        elif time.monotonic() - self._shown_at > LINE_SECONDS:
            self._say(f"{cell}: {text}")

    def end(self, outcome: str, cell: str | None = None, *, found: bool = False) -> None:
        """A run has ended, by default the one that was begun last: finished, skipped or failed. `found`:
        nothing had to be done for it."""
        cell = cell or self.cell
        self.done += 1
        self._found += found
        self._under_way.pop(cell, None)
        self._bar.update()
        if self._bar.disable:
            self._say(f"[{self.done}/{self.total}] {cell}: {outcome}; {self._left()}")
        elif outcome.startswith(FAILED):
            self.note(f"{cell}: {outcome}")

    def note(self, text: str) -> None:
        """Something else worth a line."""
        if self._bar.disable:
            self._say(text)
        else:
            self._bar.write(text, file=sys.stderr)

    def doing(self, text: str) -> None:
        """What is under way that is no run, until something else is."""
        if self._bar.disable:
            self._say(text)
        else:
            self._bar.set_description(text)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bar.close()

    def _left(self) -> str:
        """By the speed of all that was done here so far, however many at once."""
        done = self.done + sum(step / steps for step, steps in self._under_way.values())
        worked, left = done - self._found, self.total - done
        if left and worked <= 0:
            return "the time left is not known yet"
        seconds = (time.monotonic() - self.started) / worked * left if left else 0.0
        return f"about {_clock(seconds)} left"

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        self._shown_at = time.monotonic()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
