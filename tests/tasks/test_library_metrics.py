"""Metrics of scikit-learn by name, against scikit-learn's own estimators; of evaluate, by a script."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as theirs
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier

from rankbench.tasks import TaskError
from rankbench.tasks.leave_one_out import item_parts
from rankbench.tasks.metrics import METRICS, OTHERS, Answers, Metric, metric
from rankbench.tasks.sklearn_metrics import is_sklearns, sklearn_name, takes_probabilities
from rankbench.tasks.text.metrics import Measures

ITEMS = 60
GENERATOR = np.random.default_rng(0)
FEATURES = GENERATOR.normal(size=(ITEMS, 4))
NOISY = FEATURES @ GENERATOR.normal(size=4) + 0.7 * GENERATOR.normal(size=ITEMS)
TARGETS = {
    "two": (NOISY > 0).astype(int),
    "three": np.digitize(NOISY, [-0.5, 0.5]),
    "rated": NOISY + 20,
    "several": (FEATURES[:, :3] + 0.7 * GENERATOR.normal(size=(ITEMS, 3)) > 0).astype(int),
}
FUNCTIONS = [name for name in dir(theirs) if is_sklearns(name) and name not in theirs.get_scorer_names()]


@pytest.fixture(scope="module")
def fitted():
    kinds = {"two": GaussianNB(), "three": GaussianNB(), "rated": LinearRegression()}
    kinds["several"] = MLPClassifier((4,), random_state=0, max_iter=60)
    return {name: kind.fit(FEATURES, TARGETS[name]) for name, kind in kinds.items()}


def answered(estimator):
    chances = estimator.predict_proba(FEATURES) if hasattr(estimator, "predict_proba") else None
    return Answers(estimator.predict(FEATURES), chances)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", theirs.get_scorer_names())
def test_every_scorer_gives_what_it_gives_of_an_estimator(fitted, name):
    known, scored = metric(sklearn_name(name)), 0
    for kind, estimator in fitted.items():
        try:
            expected = theirs.get_scorer(name)(estimator, FEATURES, TARGETS[kind])
        except (ValueError, AttributeError):
            with pytest.raises(ValueError):
                known.judge(TARGETS[kind], answered(estimator))
        else:
            assert known.judge(TARGETS[kind], answered(estimator)) == pytest.approx(expected)
            assert known.low <= expected <= known.high
            scored += 1
    assert scored


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_gives_what_it_gives(fitted, name):
    known, scored = metric(sklearn_name(name)), 0
    for kind, estimator in fitted.items():
        target, (prediction, chances) = TARGETS[kind], answered(estimator)
        given = chances if takes_probabilities(name) else prediction
        given = given[:, 1] if kind == "two" and takes_probabilities(name) else given
        try:
            expected = getattr(theirs, name)(target, given)
        except (ValueError, TypeError):
            continue
        assert known.judge(target, Answers(prediction, chances)) == pytest.approx(expected)
        scored += 1
    assert scored


@pytest.mark.parametrize("name", [*theirs.get_scorer_names(), *FUNCTIONS])
def test_the_direction_that_a_name_says_is_the_metrics_own(name):
    known = metric(sklearn_name(name))
    if name in theirs.get_scorer_names():
        assert not known.lower_is_better, "a scorer is higher where better"
        sign = theirs.get_scorer(name)._sign
        assert name.startswith("neg_") == (sign < 0)
        assert known.low == (0 if known.percent else -np.inf)
    if {f"neg_{name}", f"neg_{name.removesuffix('_loss')}"} & {*theirs.get_scorer_names()}:
        assert known.lower_is_better


def test_names_that_are_none_are_answered_with_the_nearest():
    for name in ("f1_makro", "confusion_matrix", "roc_curve", "fbeta_score", "hinge_loss", "nothing like it"):
        with pytest.raises(TaskError, match=f"no metric is called '{name}'; "):
            Measures("classification", name)
    with pytest.raises(TaskError, match=r"did you mean .*f1_macro"):
        Measures("classification", "f1_makro")
    assert Measures("classification", "sklearn/f1_macro").names == ("sklearn/f1_macro",)
    assert Measures("classification", ["accuracy", "f1"]).names == ("accuracy", "sklearn/f1")
    assert Measures("multi-label", "accuracy").names == ("sklearn/accuracy",)
    assert Measures("regression", ["spearman", "r2"]).names == ("spearman", "sklearn/r2")


def test_a_metric_of_a_plug_in_is_known_by_its_name(monkeypatch):
    missed = Metric(
        0, 1, lower_is_better=True, compute=lambda target, prediction: (target != prediction).mean()
    )
    monkeypatch.setitem(OTHERS.plugged, "missed", (missed, None))
    measures = Measures("classification", "missed")
    answers = Answers(np.array([0, 1, 1]), np.eye(2)[[0, 1, 1]])
    assert measures.of("test", np.array([0, 1, 0]), answers) == {"missed": pytest.approx(1 / 3)}
    assert measures.parts(np.array([0, 1, 0]), answers) == pytest.approx([0, 0, 1])


@pytest.mark.parametrize(
    ("name", "target", "classes"),
    [
        ("matthews_correlation", [1, 1, 1], 2),
        ("f1", [0, 0, 0], 2),
        ("average_precision", [0, 0, 0], 2),
        ("top_k_accuracy", [0, 1, 1], 2),
        ("f1_micro", [[0, 0], [0, 0]], 2),
        ("pearson", [2.5, 2.5, 2.5], 0),
        ("r2", [2.5, 2.5, 2.5], 0),
    ],
)
def test_a_metric_that_no_answer_moves_is_refused(name, target, classes):
    """Every model would be as good: the first one would be chosen."""
    kind = "multi-label" if np.ndim(target) > 1 else "classification" if classes else "regression"
    with pytest.raises(TaskError, match=r"is [01] on the selection split whatever is answered; .*\?"):
        Measures(kind, name).check("selection", np.array(target), classes)


def test_a_metric_may_refuse_answers_that_no_model_gave(monkeypatch):
    def stars(target, prediction):
        assert (prediction >= 2).all(), "two stars at least"
        return abs(target - prediction).mean()

    monkeypatch.setitem(OTHERS.plugged, "stars", (Metric(0, 5, lower_is_better=True, compute=stars), None))
    Measures("regression", "stars").check("test", np.array([2.0, 5.0, 4.0]), 0)


@pytest.mark.parametrize("name", ["log_loss", "neg_log_loss", "d2_log_loss_score"])
def test_a_loss_that_leaves_out_what_an_item_is_not_is_refused(name):
    """Scikit-learn takes several labels for one class an item: yes to all of them was the best answer."""
    target = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1]])
    all_of_them, right = np.full((3, 3), 0.99), np.where(target, 0.9, 0.1)
    assert theirs.log_loss(target, all_of_them) < theirs.log_loss(target, right)
    with pytest.raises(TaskError, match=f"metric {name}: of several labels scikit-learn counts those that"):
        Measures("multi-label", name)


@pytest.mark.parametrize(
    ("name", "target", "classes"),
    [
        ("accuracy", [1, 1, 1], 2),
        ("accuracy", [0], 2),
        ("f1_macro", [0, 0, 0], 2),
        ("completeness_score", [0, 1, 0, 1, 0, 1], 2),
        ("homogeneity_score", [0, 0, 1, 1, 0, 0], 2),
        ("top_k_accuracy", [0, 1, 2], 3),
        ("f1_micro", [[1, 0], [0, 0]], 2),
        ("pearson", [1.0, 2.0], 0),
        ("mse", [2.5, 2.5], 0),
        ("mean_poisson_deviance", [0.0, 3.0], 0),
    ],
)
def test_a_metric_that_answers_move_passes(name, target, classes):
    kind = "multi-label" if np.ndim(target) > 1 else "classification" if classes else "regression"
    Measures(kind, name).check("test", np.array(target), classes)


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("f1", [0, 0, 0, 1], 2 * 0.25 / 1.25),
        ("f1_macro", [0, 0, 0, 1], 6 / 7 / 2),
        ("balanced_accuracy", [0, 1, 2, 2], 1 / 3),
        ("log_loss", [0, 1, 1, 1], -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))),
        ("roc_auc", [0, 1, 1, 1], 0.5),
        ("mean_absolute_error", [1.0, 2.0, 30.0], 29 / 3),
        ("root_mean_squared_error", [1.0, 3.0], 1.0),
        ("r2", [1.0, 2.0, 9.0], 0.0),
        ("f1_micro", [[1, 0], [1, 0], [1, 1]], 6 / 7),
        ("accuracy", [[1, 0], [0, 1], [0, 1]], 2 / 3),
    ],
)
def test_the_best_constant_answer_by_hand(name, target, expected):
    assert metric(sklearn_name(name)).constant(target) == pytest.approx(expected)


def test_leaving_out_gives_the_items_of_a_mean_and_the_influence_of_a_correlation():
    target, prediction = TARGETS["rated"], TARGETS["rated"] + GENERATOR.normal(size=ITEMS)
    errors = abs(target - prediction)
    parts = item_parts(lambda chosen: errors[chosen].mean(), target, prediction)
    assert parts == pytest.approx(errors)
    linear = METRICS["pearson"].parts.of(target, prediction)
    pearson = METRICS["pearson"].compute
    parts = item_parts(lambda chosen: pearson(target[chosen], prediction[chosen]), target, prediction)
    assert parts.mean() == pytest.approx(pearson(target, prediction))
    assert parts.std() == pytest.approx(linear.std(), rel=0.1)
    assert np.corrcoef(parts, linear)[0, 1] > 0.99


def test_the_spread_of_parts_is_the_scores_over_new_items():
    """The standard error of F1 by its parts, against its spread over fresh samples."""
    generator = np.random.default_rng(1)

    def drawn(count):
        target = (generator.random(count) < 0.3).astype(int)
        return target, np.where(generator.random(count) < 0.8, target, 1 - target)

    spread = np.std([theirs.f1_score(*drawn(300)) for _ in range(400)])
    target, prediction = drawn(300)
    parts = Measures("classification", "f1").parts(target, Answers(prediction, np.eye(2)[prediction]))
    assert parts.mean() == pytest.approx(theirs.f1_score(target, prediction))
    assert parts.std(ddof=1) / np.sqrt(300) == pytest.approx(spread, rel=0.15)


def test_items_that_agree_are_left_out_once():
    target = GENERATOR.integers(0, 3, 5000)
    prediction = np.where(GENERATOR.random(5000) < 0.7, target, 0)
    calls = []

    def score(chosen):
        calls.append(len(chosen))
        return theirs.f1_score(target[chosen], prediction[chosen], average="macro")

    parts = item_parts(score, target, prediction)
    assert len(calls) <= 9 + 1
    assert parts.mean() == pytest.approx(theirs.f1_score(target, prediction, average="macro"))
    assert item_parts(score, np.arange(5000)) is None, "too many to leave each out"


def test_parts_are_told_apart_by_what_the_metric_looks_at(fitted):
    answers = answered(fitted["two"])
    measures = Measures("classification", "roc_auc")
    parts = measures.parts(TARGETS["two"], answers)
    without = [
        theirs.roc_auc_score(np.delete(TARGETS["two"], i), np.delete(answers.probability[:, 1], i))
        for i in range(ITEMS)
    ]
    assert np.corrcoef(parts, without)[0, 1] == pytest.approx(-1)
    assert Measures("classification", "accuracy").parts(TARGETS["two"], answers) is None, "targets tell it"
    ratings = Answers(TARGETS["rated"] + 1)
    assert Measures("regression", "median_absolute_error").parts(TARGETS["rated"], ratings) is None


SCRIPT = """
import datasets
import evaluate

class Missed(evaluate.Metric):
    def _info(self):
        number = datasets.Value("int32")
        features = datasets.Features({"predictions": number, "references": number})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references, factor=1):
        return {"missed": factor * sum(p != r for p, r in zip(predictions, references))}
"""


def test_a_metric_of_evaluate_with_its_direction(tmp_path, monkeypatch):
    monkeypatch.setattr("rankbench.tasks.metrics.METRICS", dict(METRICS))
    monkeypatch.setattr("rankbench.tasks.text.metrics.METRICS", dict(METRICS))
    script = tmp_path / "missed.py"
    script.write_text(SCRIPT)
    asked = {"evaluate": str(script), "better": "lower", "options": {"factor": 2}}
    measures = Measures("classification", asked)
    (name,) = measures.names
    assert name == f"evaluate/{script}"
    assert measures.known[name].lower_is_better
    target, prediction = np.array([0, 1, 1]), np.array([0, 0, 0])
    assert measures.of("test", target, Answers(prediction, np.eye(2)[prediction])) == {name: 4}
    before = measures.pin()
    script.write_text(SCRIPT + "\n")
    assert measures.pin() != before
    with pytest.raises(TaskError, match="one place says higher is better, another lower"):
        Measures("classification", asked | {"better": "higher"})


SQUARED = {"evaluate": "mse", "better": "lower"}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("evaluate/mape", "metric evaluate/mape: say which way is better: {evaluate: mape, better: higher}"),
        ({"evaluate": "mape"}, "is not {evaluate: NAME, better: higher or lower"),
        ({"evaluate": "mape", "better": "up"}, "is not {evaluate: NAME, better: higher or lower"),
        ({"evaluate": "mape", "bettr": "lower"}, "a metric has no key 'bettr'; did you mean better?"),
        ([], "metric: name one at least"),
        ([3], "metric: give a name, not 3"),
        (["pearson", "pearson"], "metric: pearson is named twice"),
        ([SQUARED, SQUARED | {"options": {"squared": False}}], "metric: evaluate/mse is named twice"),
    ],
)
def test_metrics_that_cannot_be_meant(asked, told, monkeypatch):
    monkeypatch.setattr("rankbench.tasks.text.metrics.METRICS", dict(METRICS))
    with pytest.raises(TaskError) as error:
        Measures("regression", asked)
    assert told in str(error.value)


def test_a_metric_that_labels_do_not_allow_is_told_before_training():
    three = np.array([0, 1, 2, 0])
    with pytest.raises(
        TaskError, match=r"metric f1 cannot score the test split: Target is multiclass.*f1_macro"
    ):
        Measures("classification", "f1").check("test", three, 3)
    with pytest.raises(TaskError, match="metric accuracy cannot score the test split"):
        Measures("regression", "accuracy").check("test", np.array([1.0, 2.0, 3.0]), 0)
    with pytest.raises(TaskError, match=r"roc_auc is nan on the selection split.*items of every class"):
        Measures("classification", "roc_auc").check("selection", np.array([1, 1]), 2)
    with pytest.raises(
        TaskError, match="metric log_loss cannot score the test split: it is of probabilities"
    ):
        Measures("regression", "log_loss").check("test", np.array([1.0, 2.0]), 0)
    with pytest.raises(TaskError, match="mean_gamma_deviance cannot score the test split"):
        Measures("regression", "mean_gamma_deviance").check("test", np.array([-1.0, 2.0]), 0)
