"""Exact verdicts: what theory says of the rules, their sampling error, and their sentences."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from minipig.rules import RULES, Clean, Dithered, Matched, Noisy, Previous, Sign
from minipig.schedule import Schedule
from minipig.seeds import generator
from minipig.worlds import verdict as module
from minipig.worlds.verdict import (
    WORLDS,
    beside,
    cells,
    column,
    compared,
    exact_verdict,
    sampling_error,
    show_verdict,
    total_variation,
    verdict,
)

RULE_NAMES = ("blank", "matched", "clean", "sign", "noisy")


@pytest.fixture(scope="module")
def verdicts():
    """The verdicts at 64 steps, each walked once."""
    return {name: verdict(RULES[name](), 64) for name in RULE_NAMES}


def sentences(verdicts, name):
    others = {other: verdicts[other] for other in module.BESIDE}
    return [row["sentence"] for row in beside({"rule": verdicts[name]} | others).values()]


# --- the verdict -------------------------------------------------------------------------------


def test_verdicts_are_what_theory_says():
    """Noisy loses nothing; Clean is right where f is linear; Sign is wrong everywhere."""
    found = {rule: exact_verdict(rule(), 64, 16) for rule in (Noisy, Clean, Sign, Dithered)}
    assert found[Noisy]["binary"] < 0.06 and found[Noisy]["three levels"] < 0.06
    assert found[Clean]["binary"] < 0.06 and found[Clean]["three levels"] > 0.12
    assert min(found[Sign].values()) > 0.1
    assert found[Dithered]["binary"] < found[Sign]["binary"]


def test_the_floor_is_the_verdict_on_blank(verdicts):
    distances = {world: distance for world, (distance, _) in verdicts["blank"].items()}
    assert distances == pytest.approx({"binary": 0.072, "three levels": 0.105}, abs=0.001)


def test_cells_are_the_level_and_the_fifth_of_its_slices():
    world = WORLDS["three levels"]
    middle_of_fifths = torch.special.ndtri(torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]).double())
    y0 = (1 + 0.3 * middle_of_fifths).reshape(-1, 1, 1, 1)  # f(1) = 1
    last = SimpleNamespace(x0_hat=column(0.8, 0.8, 0.8, 0.8, 0.8), y0_hat=y0)
    assert cells(world, last).tolist() == [10, 11, 12, 13, 14]


def test_total_variation_is_0_for_the_true_law_and_1_for_an_impossible_one():
    world = WORLDS["binary"]  # prior .8 and .2, each in fifths
    true = torch.arange(10).repeat_interleave(torch.tensor([4] * 5 + [1] * 5))
    assert total_variation(world, true) == pytest.approx(0, abs=1e-6)
    assert total_variation(world, torch.zeros(100).long()) == pytest.approx(1 - 0.8 / 5)


def test_the_schedule_is_honoured():
    """Noisy loses nothing on any schedule; equal noise on the grid gives an equal verdict."""
    linear = exact_verdict(Noisy(), 64, 16)
    cosine = exact_verdict(Noisy(), 64, 16, Schedule.cosine())
    assert cosine != linear and max(cosine.values()) < 0.06
    every_second = Schedule.of(Schedule.linear().abar[2::2])
    assert exact_verdict(Noisy(), 64, 16, every_second) == linear


def test_a_rule_of_several_pixels_has_no_exact_verdict():
    with pytest.raises(ValueError, match="Binarised needs several pixels"):
        exact_verdict(RULES["binarised"](), 4, 4)


@pytest.mark.parametrize("invalid", ["clean", Clean])
def test_an_invalid_rule_is_refused(invalid):
    with pytest.raises(ValueError, match="is not an object with the methods train and"):
        exact_verdict(invalid, 4, 4)


# --- its sampling error ------------------------------------------------------------------------


def test_the_sampling_error_is_the_spread_over_repeated_independent_walks():
    """400 independent walks that end in known shares: repeat them, and compare."""
    world = WORLDS["binary"]
    shares = np.array([0.17, 0.17, 0.15, 0.15, 0.12, 0.06, 0.05, 0.05, 0.04, 0.04])
    draw = np.random.default_rng(1)
    repeated = [torch.from_numpy(draw.choice(10, 400, p=shares)) for _ in range(400)]
    spread = np.std([total_variation(world, cell) for cell in repeated], ddof=1)
    errors = [sampling_error(world, cell) for cell in repeated[:10]]
    assert np.mean(errors) == pytest.approx(spread, rel=0.15)


def test_the_sampling_error_falls_with_the_root_of_the_number_of_walks():
    more = verdict(Matched(), 4, starts=40)
    few = verdict(Matched(), 4, starts=10)
    for world in WORLDS:
        assert few[world][1] / more[world][1] == pytest.approx(4, rel=0.4)


def test_lattice_starts_vary_less_than_the_sampling_error(monkeypatch):
    """The error is that of independent starts; a lattice, moved at random, varies less."""
    blank = RULES["blank"]()
    error = verdict(blank, 8, starts=20)
    found = []
    for shift in torch.rand(8, 2, generator=generator("shift"), dtype=torch.float64):
        rows = torch.special.ndtri((torch.arange(20)[:, None] + shift) / 20).T
        starts = torch.meshgrid(*rows, indexing="ij")
        moved = tuple(z.reshape(-1, 1, 1, 1) for z in starts)
        monkeypatch.setattr(module, "lattice", lambda n, moved=moved: moved)
        found.append(verdict(blank, 8))
    for world in WORLDS:
        assert np.std([row[world][0] for row in found], ddof=1) < error[world][1]


# --- its sentence ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, binary, three_levels",
    [
        ("sign", "worse than blank, different", "worse than blank, different"),
        ("clean", "better than blank, indistinguishable", "worse than blank, different"),
        ("noisy", "better than blank, indistinguishable", "better than blank, indistinguishable"),
        ("matched", "better than blank, indistinguishable", "better than blank, indistinguishable"),
        ("blank", "no better than blank, different", "no better than blank, different"),
    ],
)
def test_the_sentence_says_better_than_blank_and_different_from_matched(
    verdicts, name, binary, three_levels
):
    wanted = [f"{start} from matched" for start in (binary, three_levels)]
    assert sentences(verdicts, name) == wanted


def test_verdicts_differ_if_they_are_twice_their_errors_difference_apart():
    """Errors .03 and .04: that of the difference is .05."""
    row = {"blank": (0.5, 0.04), "matched": (0.1, 0.04), "clean": (0.1, 0.04)}
    for mine, wanted in (
        (0.61, "worse than blank, different from matched"),
        (0.59, "no better than blank, different from matched"),
        (0.41, "no better than blank, different from matched"),
        (0.39, "better than blank, different from matched"),
        (0.19, "better than blank, indistinguishable from matched"),
    ):
        assert module.sentence(row | {"rule": (mine, 0.03)}) == wanted


def test_a_rule_is_compared_and_shown():
    found = compared(Clean(), 8)
    assert set(found) == set(WORLDS)
    for row in found.values():
        assert row["rule"] == row["clean"] != row["blank"]
    first, second = show_verdict(found).splitlines()
    assert first.startswith("binary       0.") and "(blank 0." in first
    assert second.endswith(found["three levels"]["sentence"])


def test_a_rule_made_for_some_steps_is_judged_in_them():
    """Previous shows the mask after its half of a step, which is another at other steps."""
    rule = Previous()
    assert verdict(rule, 16, 8) == verdict(Previous(16), 16, 8) and rule.steps == 256
