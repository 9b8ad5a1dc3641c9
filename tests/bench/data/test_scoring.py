"""Label rules on known answers: sets of labels, masks of classes, mean corruption error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.data import scoring
from bench.data.cards import imagenet

RESNET50 = {
    "gaussian_noise": (0.2929, 79.77),
    "impulse_noise": (0.2381, 82.58),
    "defocus_blur": (0.3875, 74.71),
    "glass_blur": (0.2679, 88.61),
    "frost": (0.3814, 74.84),
    "fog": (0.4583, 66.11),
    "brightness": (0.6802, 56.64),
    "contrast": (0.3906, 71.43),
    "elastic_transform": (0.4525, 84.75),
}
"""Top-1 and corruption error (%) of torchvision's ResNet-50, as a public evaluation prints them."""

ALEXNET_BY_SEVERITY = {
    "gaussian_noise": (0.69528, 0.82542, 0.93554, 0.98138, 0.99452),
    "shot_noise": (0.71224, 0.85108, 0.93574, 0.98182, 0.99146),
    "impulse_noise": (0.78374, 0.89808, 0.9487, 0.9872, 0.99548),
    "defocus_blur": (0.65624, 0.73202, 0.85036, 0.91364, 0.94714),
    "glass_blur": (0.64308, 0.75054, 0.88806, 0.91622, 0.93344),
    "motion_blur": (0.5843, 0.70048, 0.82108, 0.8975, 0.92638),
    "zoom_blur": (0.70008, 0.76992, 0.80784, 0.84198, 0.87198),
    "snow": (0.71726, 0.88392, 0.86468, 0.9187, 0.94952),
    "frost": (0.6139, 0.79734, 0.8879, 0.89942, 0.9343),
    "fog": (0.67474, 0.7605, 0.84378, 0.8726, 0.945),
    "brightness": (0.4514, 0.48502, 0.54048, 0.62166, 0.7244),
    "contrast": (0.64548, 0.7615, 0.88874, 0.9776, 0.9927),
    "elastic_transform": (0.52596, 0.70116, 0.55686, 0.64076, 0.80554),
    "pixelate": (0.52218, 0.5462, 0.73728, 0.87092, 0.91262),
    "jpeg_compression": (0.51002, 0.54718, 0.57294, 0.65458, 0.74778),
}
"""AlexNet's errors at each severity, from another public copy of the benchmark's numbers."""


def one_hot(classes: list[int], num_classes: int) -> np.ndarray:
    return np.eye(num_classes)[classes]


def test_top1_takes_the_highest_score_and_the_lowest_class_of_a_tie() -> None:
    logits = np.array([[0.0, 2.0, 1.0], [3.0, 3.0, 1.0], [0.0, 0.0, 5.0]])
    result = scoring.score("top1", logits, np.array([1, 1, 2]))
    assert result.hits_N.tolist() == [True, False, True]
    assert result.top1 == pytest.approx(2 / 3)
    assert result.num_counted == 3


def test_multi_label_counts_any_label_and_leaves_out_images_without_one() -> None:
    details = np.array([[1, 2], [-1, -1], [0, -1], [2, -1]])
    logits = one_hot([2, 0, 1, 2], 3)
    result = scoring.score("multi-label", logits, np.array([1, 0, 0, 2]), details_NF=details)
    assert result.counted_N.tolist() == [True, False, True, True]
    assert result.hits_N.tolist() == [True, False, False, True]
    assert result.top1 == pytest.approx(2 / 3)


def test_real_labels_of_the_shared_file(shared_data: Path) -> None:
    """One right label an image scores 1 on 46,837 images; class 0 everywhere scores its share."""
    lists = json.loads((shared_data / "imagenet-meta" / "real.json").read_text())
    width = max(map(len, lists))
    details = np.array([[*labels, *[-1] * (width - len(labels))] for labels in lists])
    last = np.array([labels[-1] if labels else 0 for labels in lists])
    result = scoring.judge("multi-label", last, last, details_NF=details)
    assert (result.num_counted, result.top1) == (46_837, 1.0)
    none = scoring.judge("multi-label", np.zeros(50_000, dtype=int), last, details_NF=details)
    assert none.top1 == sum(0 in labels for labels in lists) / 46_837


def test_class_subset_masks_the_other_classes() -> None:
    """The highest of all scores is of a class that the set does not have."""
    logits = np.array([[9.0, 1.0, 5.0, 2.0], [9.0, 3.0, 5.0, 4.0]])
    labels = np.array([1, 3])
    assert scoring.score("top1", logits, labels).top1 == 0.0
    result = scoring.score("class-subset", logits, labels)
    assert result.hits_N.tolist() == [False, True]
    assert scoring.predict(logits, np.array([1, 3])).tolist() == [3, 3]


@pytest.mark.parametrize("name", ["imagenet-a", "imagenet-r"])
def test_masks_of_the_published_subsets(name: str) -> None:
    indices = imagenet.subset_indices(name)
    assert len(indices) == len(set(indices)) == 200
    assert [imagenet.synsets()[index] for index in indices] == list(imagenet.subset_synsets(name))
    labels = np.repeat(indices, 2)
    assert np.array_equal(scoring.subset_classes("class-subset", labels), indices)
    # A uniform guess among 200 classes, wherever the other 800 score higher.
    logits = np.full((400, 1000), 5.0)
    logits[:, list(indices)] = 0.0
    logits[np.arange(400), labels] = 1.0
    assert scoring.score("class-subset", logits, labels).top1 == 1.0
    assert scoring.score("top1", logits, labels).top1 == 0.0


def test_alexnet_errors_are_the_means_of_its_errors_at_each_severity() -> None:
    assert list(imagenet.ALEXNET_ERRORS) == list(ALEXNET_BY_SEVERITY)
    for name, errors in ALEXNET_BY_SEVERITY.items():
        assert imagenet.ALEXNET_ERRORS[name] == pytest.approx(np.mean(errors), abs=1e-6)


def test_alexnet_has_a_mean_corruption_error_of_one() -> None:
    top1 = {name: 1 - error for name, error in imagenet.ALEXNET_ERRORS.items()}
    assert scoring.mean_corruption_error(top1) == pytest.approx(1.0)
    halved = {name: 1 - error / 2 for name, error in imagenet.ALEXNET_ERRORS.items()}
    assert scoring.mean_corruption_error(halved) == pytest.approx(0.5)


@pytest.mark.parametrize("name", RESNET50)
def test_corruption_errors_of_a_published_evaluation(name: str) -> None:
    top1, error = RESNET50[name]
    perfect = dict.fromkeys(imagenet.CORRUPTIONS, 1.0)
    share = scoring.mean_corruption_error({**perfect, name: top1}) * 15
    assert share * 100 == pytest.approx(error, abs=0.01)


def corrupted(*, per_cell: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, details and, as a random order, where each image lies."""
    cells = [(place, severity) for place in range(15) for severity in range(1, 6)]
    details = np.repeat(cells, per_cell, axis=0)
    order = np.random.default_rng(0).permutation(len(details))
    return np.tile(np.arange(per_cell), 75)[order], details[order], order


def test_corruption_averages_over_severities_and_corruptions() -> None:
    labels, details, _ = corrupted()
    # At severity s, s - 1 of 4 images are wrong, at fog all of them.
    wrong = (labels < details[:, 1] - 1) | (details[:, 0] == imagenet.CORRUPTIONS.index("fog"))
    predicted = np.where(wrong, labels + 1, labels)
    result = scoring.judge("corruption", predicted, labels, details_NF=details)
    assert result.top1_by_corruption["snow"] == pytest.approx(0.5)
    assert result.top1_by_corruption["fog"] == 0.0
    assert result.top1 == pytest.approx(14 / 15 * 0.5)
    errors = imagenet.ALEXNET_ERRORS
    expected = np.mean([(1.0 if name == "fog" else 0.5) / errors[name] for name in errors])
    assert result.mce == pytest.approx(expected)


def test_a_missing_corruption_leaves_the_mean_error_out() -> None:
    labels, details, _ = corrupted()
    kept = details[:, 0] != imagenet.CORRUPTIONS.index("snow")
    result = scoring.judge("corruption", labels[kept], labels[kept], details_NF=details[kept])
    assert result.mce is None
    assert result.why_no_mce == "5 of 75 sets missing, first snow at severity 1"
    assert (result.top1, len(result.top1_by_corruption)) == (1.0, 14)


@pytest.mark.parametrize("rule", ["multi-label", "corruption"])
def test_rules_that_need_details_say_so(rule: scoring.Scoring) -> None:
    with pytest.raises(ValueError, match="needs details"):
        scoring.judge(rule, np.zeros(2, int), np.zeros(2, int))
