"""Sessions: `nox -s reproduce`, `nox -s tests`, `nox -s compare`, `nox -s bench`, `nox -s gpu`,
`nox -s lint`, `nox -s types`.

Every session but `gpu` installs what it needs into a virtual environment of its own, at the versions of
constraints.txt; it is reused from one call to the next. None shares another's: where several are made at once
(`.ci/run`), one installs while another works.
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
REFERENCE = {"laptop": ["--beside", "results/settled"]}
"""Suite -> the committed records of the same runs and more, which its report sets beside its own."""

OTHER_PROCESSOR = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}
"""PyTorch's, MKL's and oneDNN's kernels without vector instructions round otherwise than this processor's."""

TEST_PARTS = {
    "not slow and not network": {},
    "numerical and not slow and not network": OTHER_PROCESSOR,
    "slow or network": {},
}
"""Marks and environment of what `nox -s tests` runs one after the other."""

TWO_WORKERS = ("--numprocesses=2", "--dist=worksteal")
"""Each begins with half of the files; who is done first takes tests from the other's end. So hardly a fixture
of a module is made twice."""
FILE_BY_FILE = ("--numprocesses=3", "--dist=loadfile", "--no-loadscope-reorder")
"""The slow ones: none of their fixtures is made twice (a Ray cluster, two processes that train for half a
minute). The longest files come first, by `tests/conftest.py`. They wait for what they start, a quarter of the
time of two workers: the third one works meanwhile."""
TEST_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
"""One thread a worker. Compiled modules are kept even where the surroundings forbid it: else every part and
every interpreter that a test starts would compile ours, and pytest rewrite every assertion, once more."""

RUN_OPTIONS = (
    "only",
    "seeds",
    "mirror",
    "checkpoint-every",
    "workers",
    "threads",
    "backend",
    "address",
    "slurm",
    "track",
)
RUN_FLAGS = ("share-gpus", "retry-failed", "keep-old-versions", "save")


def install(session: nox.Session, *groups: str, extra: str = "") -> None:
    """Uncompiled: what is imported compiles then, and most never is. Compiling all takes longer than the rest
    of the installation."""
    packages = [package for group in groups for package in DEPENDENCIES[group]]
    options = ("--no-compile", "--constraint", "constraints.txt")
    session.install(*options, "--editable", f".{extra}", *packages)


def checkout(session: nox.Session) -> str:
    """A folder in which this one is called `rankbench`. Tools that read our code without importing it do not
    follow an editable install."""
    folder = Path(session.create_tmp())
    link = folder / "rankbench"
    if not link.exists():
        link.symlink_to(Path.cwd())
    return str(folder)


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


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Besides the parser's own arguments, those that `rankbench run` takes."""
    for option in RUN_OPTIONS:
        parser.add_argument(f"--{option}", dest=option, action="append" if option == "slurm" else "store")
    for flag in RUN_FLAGS:
        parser.add_argument(f"--{flag}", dest=flag, action="store_const", const=f"--{flag}")
    return parser.parse_args(words)


def install_and_run(session: nox.Session, options: argparse.Namespace, results: str) -> None:
    needed = ["arithmetic"] * (options.suite == "everything") + ["math"] * (options.suite == "paper-math")
    needed += [options.backend] * (options.backend in ("ray", "slurm"))
    needed += [options.track] if options.track else []
    install(session, extra=f"[{','.join(needed)}]" if needed else "")
    words = [flag for name in RUN_FLAGS if (flag := getattr(options, name))]
    for option in RUN_OPTIONS:
        given = getattr(options, option) or []
        for value in given if isinstance(given, list) else [given]:
            words += [f"--{option}", value]
    run = ["python", "-m", "rankbench.bench", "run", options.suite, "--results", results, *words]
    # Nox kills an interrupted command after a third of a second; a run needs longer to save its state.
    session.run(*run, interrupt_timeout=120, success_codes=[0, 1])


@nox.session
def reproduce(session: nox.Session) -> None:
    """Train, score and report a suite: `nox -s reproduce [-- SUITE [options of rankbench run]]`."""
    parser = argparse.ArgumentParser(prog="nox -s reproduce --", allow_abbrev=False)
    parser.add_argument("suite", nargs="?", default="laptop")
    parser.add_argument("--results", default=FRESH)
    options = parse(parser, session.posargs)
    install_and_run(session, options, options.results)
    report = ["report", options.suite, "--results", options.results, *REFERENCE.get(options.suite, [])]
    session.run("python", "-m", "rankbench.bench", *report)


@nox.session
def tests(session: nox.Session) -> None:
    """The whole test suite, fast tests first and the slow ones whatever came of those:
    `nox -s tests [-- pytest options]`."""
    install(session, "test", extra="[math,nf4,ray,slurm,tensorboard]")
    install_chromium(session)
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    failed = []
    for marks, environment in TEST_PARTS.items():
        try:
            shared_out = FILE_BY_FILE if marks == "slow or network" else TWO_WORKERS
            session.run("pytest", "-m", marks, *shared_out, env=TEST_ENVIRONMENT | environment)
        except nox.command.CommandFailed as error:
            failed.append(f"{marks} (pytest's exit code {error.return_code})")
    if failed:
        session.error(f"failed: {'; '.join(failed)}")


@nox.session
def compare(session: nox.Session) -> None:
    """Run a suite anew and judge it against earlier records; fails on a regression:
    `nox -s compare [-- BASELINE [SUITE] [options of rankbench run]]`, SUITE being the baseline's name
    unless it is given.

    The default's baseline is renewed by `rankbench run smoke --seeds 3 --results tests/baseline`.
    """
    parser = argparse.ArgumentParser(prog="nox -s compare --", allow_abbrev=False)
    parser.add_argument("baseline")
    parser.add_argument("suite", nargs="?")
    options = parse(parser, session.posargs or ["tests/baseline/smoke", "--seeds", "3"])
    options.suite = options.suite or Path(options.baseline).name
    only = ["--only", options.only] if options.only else []
    with tempfile.TemporaryDirectory() as results:
        install_and_run(session, options, results)
        (candidate,) = Path(results).iterdir()
        session.run("python", "-m", "rankbench.bench", "compare", options.baseline, str(candidate), *only)


@nox.session
def bench(session: nox.Session) -> None:
    """Time the hot functions, apart from the tests: `nox -s bench [-- pytest-benchmark options]`."""
    install(session, "test")
    columns = "--benchmark-columns=median,iqr,rounds,iterations"
    session.run("pytest", "tests/bench_step.py", columns, *session.posargs)


@nox.session(venv_backend="none")
def gpu(session: nox.Session) -> None:
    """Try everything on a GPU, with the packages that this machine has, which may be without a network:
    `nox -s gpu [-- options of rankbench gpu-check]`."""
    there = filter(None, [checkout(session), os.environ.get("PYTHONPATH")])
    command = ["python3", "-m", "rankbench.bench", "gpu-check", *session.posargs]
    session.run(*command, env={"PYTHONPATH": os.pathsep.join(there)}, interrupt_timeout=120)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, and who may import whom (pyproject.toml, `importlinter`)."""
    session.install("--constraint", "constraints.txt", *DEPENDENCIES["lint"])
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", env={"PYTHONPATH": checkout(session)})


@nox.session
def types(session: nox.Session) -> None:
    """Type check."""
    install(session, "types")
    session.run("mypy", env={"MYPYPATH": checkout(session)})
