"""Few-shot in one pass against a solve for each draw, number of shots and l2.

Run `pytest tests/benchmarks/test_training_fewshot.py -s -m slow` to see the ratio at the size of an
ImageNet task (1,000 classes, 768 features, 50,000 test images); the goal is at least 3 against
float64. Times are CPU times of one thread. What is asserted is that the predictions are those of
float64.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from bench.jobs._least_squares import FewShot, rank_examples

ONE, TWO = (1024.0,), (256.0, 1024.0)
ALL = (1, 5, 10, 25)


def naive(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    *,
    num_classes: int,
    shots: int,
    seed: int,
    l2: float,
    dtype: type,
) -> np.ndarray:
    """big_vision's fewshot_lsr for one draw and one number of shots, in NumPy."""
    ranked = rank_examples(labels, num_classes=num_classes, seed=seed)
    chosen = np.concatenate([indices[:shots] for indices in ranked])
    x, test = train[chosen].astype(dtype), test.astype(dtype)
    mean, std = x.mean(axis=0), x.std(axis=0) + dtype(1e-5)
    x = np.pad((x - mean) / std, ((0, 0), (0, 1)), constant_values=100)
    test = np.pad((test - mean) / std, ((0, 0), (0, 1)), constant_values=100)
    targets = (2 * np.eye(num_classes)[labels[chosen]] - 1).astype(dtype)
    if len(x) >= x.shape[1]:
        system = x.T @ x + l2 * np.eye(x.shape[1], dtype=dtype)
        weight = np.linalg.solve(system, x.T @ targets)
    else:
        weight = x.T @ np.linalg.solve(x @ x.T + l2 * np.eye(len(x), dtype=dtype), targets)
    return (test @ weight).argmax(axis=1)


@pytest.mark.parametrize(
    ("num_classes", "width", "num_test", "shots", "draws", "l2s"),
    [
        pytest.param(20, 32, 400, (1, 5, 10), 2, (64.0, 1024.0), id="small"),
        pytest.param(1000, 768, 50_000, (10,), 1, ONE, id="ten shots", marks=pytest.mark.slow),
        pytest.param(1000, 768, 50_000, ALL, 1, ONE, id="all shots", marks=pytest.mark.slow),
        pytest.param(1000, 768, 50_000, (5, 10), 2, TWO, id="draws, l2", marks=pytest.mark.slow),
    ],
)
def test_one_pass_gives_what_separate_solves_give(
    num_classes: int,
    width: int,
    num_test: int,
    shots: tuple[int, ...],
    draws: int,
    l2s: tuple[float, ...],
) -> None:
    rng = np.random.default_rng(0)
    centres = 0.3 * rng.normal(size=(num_classes, width))
    labels = np.repeat(np.arange(num_classes), 25)
    train = (centres[labels] + rng.normal(size=(len(labels), width))).astype(np.float32)
    test_labels = rng.integers(0, num_classes, size=num_test)
    test = (centres[test_labels] + rng.normal(size=(num_test, width))).astype(np.float32)
    with threadpool_limits(1):
        started_s = time.process_time()
        task = FewShot(train, labels, test, num_classes=num_classes)
        found = {
            (fit.shots, fit.draw, fit.l2): task.predict(fit)
            for fit in task.fits(shots=shots, draws=draws, l2s=l2s)
        }
        ours_s = time.process_time() - started_s
        for dtype in (np.float64, np.float32):
            started_s = time.process_time()
            expected = {
                (count, draw, l2): naive(
                    train,
                    labels,
                    test,
                    num_classes=num_classes,
                    shots=count,
                    seed=draw,
                    l2=l2,
                    dtype=dtype,
                )
                for count in shots
                for draw in range(draws)
                for l2 in l2s
            }
            naive_s = time.process_time() - started_s
            flips = sum(int((expected[key] != found[key]).sum()) for key in expected)
            print(
                f"\n{dtype.__name__}: one pass {ours_s:.2f} s, separate solves {naive_s:.2f} s, "
                f"ratio {naive_s / ours_s:.2f}, predictions that differ {flips}"
            )
            if dtype is np.float64:
                assert flips == 0
