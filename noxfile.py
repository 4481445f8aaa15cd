"""Sessions: `nox -s reproduce`, `nox -s tests`, `nox -s lint`, `nox -s types`.

Every session installs the project into a virtual environment of its own, at the versions of
constraints.txt; it is reused while pyproject.toml and constraints.txt stay as they are.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2026.1"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

DEPENDENCIES = nox.project.load_toml("pyproject.toml")["dependency-groups"]


def install(session: nox.Session, *groups: str) -> None:
    packages = [package for group in groups for package in DEPENDENCIES[group]]
    session.install("--constraint", "constraints.txt", "--editable", ".", *packages)


@nox.session
def reproduce(session: nox.Session) -> None:
    """Train, score and report a suite: `nox -s reproduce [-- SUITE [options of rankbench run]]`."""
    install(session)
    arguments = session.posargs or ["laptop"]
    suite = next((word for word in arguments if not word.startswith("-")), "laptop")
    # Nox kills an interrupted command after a third of a second; a run needs longer to save its state.
    session.run("python", "-m", "bench", "run", *arguments, interrupt_timeout=120)
    session.run("python", "-m", "bench", "report", suite, *_results(arguments))


def _results(arguments: list[str]) -> list[str]:
    """The --results option, which `report` takes too."""
    for position, word in enumerate(arguments):
        if word == "--results":
            return arguments[position : position + 2]
        if word.startswith("--results="):
            return [word]
    return []


@nox.session
def tests(session: nox.Session) -> None:
    """The whole test suite, fast tests first: `nox -s tests [-- pytest options]`."""
    install(session, "test")
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.run("pytest", "-m", "not slow and not network")
    session.run("pytest", "-m", "slow or network")


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
