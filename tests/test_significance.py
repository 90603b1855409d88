import numpy as np
import pytest
from scipy.stats import norm

from polclip.errors import UserError
from polclip.evaluation.significance import bootstrap_interval, compare, compare_statistic, mcnemar, resampled_means


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    values = (np.arange(2000) % 10 < 7).astype(float)  # 70 % right
    low, high = bootstrap_interval(values, resamples=4000, seed=1)
    half = norm.ppf(0.975) * np.sqrt(0.7 * 0.3 / 2000)
    assert low == pytest.approx(0.7 - half, abs=0.002) and high == pytest.approx(0.7 + half, abs=0.002)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        low, high = bootstrap_interval(rng.random(120) < 0.4, resamples=300, seed=trial)
        covered += low <= 0.4 <= high
    assert 0.90 < covered / 300 < 0.99


def test_the_seed_decides_and_memory_blocks_do_not_matter(monkeypatch):
    values = np.random.default_rng(3).random((50, 2))
    whole = resampled_means(values, 40, seed=5)
    assert whole.shape == (40, 2)
    assert (whole == resampled_means(values, 40, seed=5)).all()
    assert (whole != resampled_means(values, 40, seed=6)).any()
    monkeypatch.setattr("polclip.evaluation.significance._AT_ONCE", 350)
    assert (whole == resampled_means(values, 40, seed=5)).all()


def test_drawing_kinds_of_instances_is_drawing_instances(monkeypatch):
    rng = np.random.default_rng(2)
    points = rng.integers(0, 3, 400)
    values = np.column_stack([points, points > rng.random(400)])
    kinds = resampled_means(values, 4000, seed=1)
    monkeypatch.setattr("polclip.evaluation.significance._ALIKE", 1000)  # too few of a kind: instances are drawn
    drawn = resampled_means(values, 4000, seed=1)
    assert (kinds != drawn).any()
    assert kinds.mean(axis=0) == pytest.approx(drawn.mean(axis=0), abs=0.005)
    assert np.cov(kinds.T) == pytest.approx(np.cov(drawn.T), rel=0.1)
    assert np.quantile(kinds[:, 0], [0.025, 0.975]) == pytest.approx(np.quantile(drawn[:, 0], [0.025, 0.975]), abs=0.01)


def test_a_ratio_is_compared_on_the_same_draws_and_strata_count_the_same():
    def ratio(means):
        return means[:, 0] / means[:, 1]

    b = np.column_stack([np.arange(60) % 2, np.ones(60)])
    a = np.column_stack([np.ones(60), np.ones(60)])
    difference, low, high, p = compare_statistic([(a, b)], ratio)
    assert difference == 0.5 and 0.3 < low < 0.5 < high < 0.7 and p < 0.01
    assert compare_statistic([(a, b), (b[:4], b[:4])], ratio)[0] == 0.25
    assert compare_statistic([(b, b)], ratio) == (0, 0, 0, 1)


def test_a_statistic_of_several_columns_is_taken_from_the_same_draws():
    values = np.column_stack([np.ones(30), np.full(30, 2.0)])
    assert bootstrap_interval(values, lambda means: means[:, 0] / means[:, 1]) == (0.5, 0.5)


def test_nothing_to_draw_from_is_refused():
    with pytest.raises(UserError, match="needs instances"):
        bootstrap_interval(np.array([]))
    with pytest.raises(UserError, match="Cannot pair 3 instances with 4"):
        compare(np.ones(3), np.ones(4))


def test_a_clear_difference_is_significant_and_none_is_not():
    rng = np.random.default_rng(0)
    b = (rng.random(400) < 0.5).astype(float)
    a = np.maximum(b, rng.random(400) < 0.2)  # never worse
    clear = compare(a, b)
    assert 0 < clear.ci_low < clear.difference < clear.ci_high
    assert clear.difference == pytest.approx(a.mean() - b.mean())
    assert clear.p_bootstrap < 0.01 and clear.p_mcnemar < 0.001 and clear.n == 400
    turned = compare(b, a)
    assert turned.difference == -clear.difference and turned.p_mcnemar == clear.p_mcnemar
    same = compare(b, b)
    assert (same.difference, same.p_bootstrap, same.p_mcnemar) == (0, 1, 1)


def test_p_values_are_not_small_too_often_without_a_difference():
    rng = np.random.default_rng(1)
    small = 0
    for trial in range(200):
        a, b = rng.random((2, 150)) < 0.5
        small += compare(a, b, resamples=200, seed=trial).p_bootstrap < 0.05
    assert small < 22


def test_seeds_are_averaged_by_instance_and_systems_may_have_different_numbers_of_them():
    a = np.array([[1, 0, 1, 0], [1, 0, 0, 0], [1, 1, 1, 0]])
    b = np.array([0, 0, 1, 0])
    result = compare(a, b)
    assert result.difference == pytest.approx((1 + 1 / 3 - 1 / 3 + 0) / 4)
    assert result.p_mcnemar == 1  # by majority, a has instance 0 alone


def test_mcnemar_is_the_binomial_test_of_the_disagreements():
    a = np.array([True] * 9 + [False] * 1 + [True] * 5)
    b = np.array([False] * 9 + [True] * 1 + [True] * 5)
    assert mcnemar(a, b) == pytest.approx(2 * (1 + 10) / 2**10)
