"""Sessions: `nox -s reproduce`, `nox -s tests`, `nox -s compare`, `nox -s bench`, `nox -s lint`,
`nox -s types`.

Every session installs the project into a virtual environment of its own, at the versions of
constraints.txt; it is reused from one call to the next.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2026.1"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

DEPENDENCIES = nox.project.load_toml("pyproject.toml")["dependency-groups"]
FRESH = "results/fresh"
"""Ignored by git: the committed records of results/ would otherwise count as done."""


def install(session: nox.Session, *groups: str, extra: str = "") -> None:
    packages = [package for group in groups for package in DEPENDENCIES[group]]
    session.install("--constraint", "constraints.txt", "--editable", f".{extra}", *packages)


def install_chromium(session: nox.Session) -> None:
    """Debian's, where that can be done: the tests of the page are skipped without it."""
    if shutil.which("chromium") and shutil.which("chromedriver"):
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        session.log("no Chromium, and no way to install it here: the tests of the page are skipped")
        return
    options = {"external": True, "success_codes": range(256), "env": {"DEBIAN_FRONTEND": "noninteractive"}}
    session.run("apt-get", "update", "-q", **options)
    session.run("apt-get", "install", "-q", "-y", "chromium", "chromium-driver", **options)


@nox.session
def reproduce(session: nox.Session) -> None:
    """Train, score and report a suite: `nox -s reproduce [-- SUITE [options of rankbench run]]`."""
    parser = argparse.ArgumentParser(prog="nox -s reproduce --", allow_abbrev=False)
    parser.add_argument("suite", nargs="?", default="laptop")
    parser.add_argument("--results", default=FRESH)
    for option in ("--only", "--seeds", "--mirror", "--checkpoint-every"):
        parser.add_argument(option)
    options = vars(parser.parse_args(session.posargs))
    suite, results = options.pop("suite"), options.pop("results")
    words = [
        word for name, value in options.items() if value for word in (f"--{name.replace('_', '-')}", value)
    ]
    install(session, extra="[arithmetic]" if suite == "extended" else "")
    # Nox kills an interrupted command after a third of a second; a run needs longer to save its state.
    run = ["python", "-m", "bench", "run", suite, "--results", results, *words]
    session.run(*run, interrupt_timeout=120, success_codes=[0, 1])
    session.run("python", "-m", "bench", "report", suite, "--results", results)


@nox.session
def tests(session: nox.Session) -> None:
    """The whole test suite, fast tests first: `nox -s tests [-- pytest options]`."""
    install(session, "test")
    install_chromium(session)
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.run("pytest", "-m", "not slow and not network")
    session.run("pytest", "-m", "slow or network")


@nox.session
def compare(session: nox.Session) -> None:
    """Run a suite anew and judge it against earlier records; fails on a regression:
    `nox -s compare [-- BASELINE SUITE [options of rankbench run]]`.

    The default's baseline is renewed by `rankbench run smoke --seeds 3 --results tests/baseline`.
    """
    default = ["tests/baseline/smoke", "smoke", "--seeds", "3"]
    baseline, suite, *options = session.posargs or default
    install(session)
    with tempfile.TemporaryDirectory() as results:
        run = ["python", "-m", "bench", "run", suite, *options, "--results", results]
        session.run(*run, interrupt_timeout=120, success_codes=[0, 1])
        (candidate,) = Path(results).iterdir()
        session.run("python", "-m", "bench", "compare", baseline, str(candidate))


@nox.session
def bench(session: nox.Session) -> None:
    """Time the hot functions, apart from the tests: `nox -s bench [-- pytest-benchmark options]`."""
    install(session, "test")
    columns = "--benchmark-columns=median,iqr,rounds,iterations"
    session.run("pytest", "tests/bench_step.py", columns, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.install("--constraint", "constraints.txt", "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Type check."""
    install(session, "lint")
    session.run("mypy")
