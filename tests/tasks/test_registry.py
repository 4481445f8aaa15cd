"""Names, options and the light import."""

import subprocess
import sys

import pytest

from rankbench import tasks
from tests.tasks.made_data import USERS

GLUE = {"cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"}
LM_EVAL = {"arc_easy", "arc_challenge", "piqa", "boolq", "hellaswag", "winogrande", "social_iqa"}
LM_EVAL |= {"openbookqa", "gsm8k", "bbc", "arithmetic"}
OTHERS = {
    "movie",
    "amazon",
    "tweets",
    "movie-text",
    "linear-regression",
    "tiny-classification",
    "tiny-causal",
}


def test_every_promised_task_is_there():
    assert set(tasks.names()) >= GLUE | LM_EVAL | OTHERS | USERS


def test_listing_and_creating_load_no_data_library():
    code = (
        "import sys; from rankbench import tasks\n"
        f"[tasks.create(name) for name in tasks.names() if name not in {USERS}]\n"
        "print([m for m in ('datasets', 'lm_eval', 'evaluate', 'reasoning_gym') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_unknown_names_and_options_name_the_nearest():
    with pytest.raises(tasks.TaskError, match=r"unknown task 'moovie'.*movie"):
        tasks.create("moovie")
    with pytest.raises(tasks.TaskError, match=r"no option 'max_lenght'.*max_length"):
        tasks.create("movie", max_lenght=3)


@pytest.mark.parametrize("value", [0, -1, 2.5, "many", True])
@pytest.mark.parametrize("name", ["movie", "rte", "bbc", "tiny-causal", "linear-regression"])
def test_bad_counts_are_refused(name, value):
    with pytest.raises(tasks.TaskError, match=f"{name}: test must be a whole number above 0"):
        tasks.create(name, test=value)


def test_what_movie_trains_can_be_scored_on_sst2():
    """Both have the same classes in the same order, and say so."""
    assert tasks.create("movie").head == tasks.create("sst2").head
