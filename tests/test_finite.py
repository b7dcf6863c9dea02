"""Proposition 1 as arithmetic: each line of its proof, and what a broken assumption breaks."""

import pytest

from minipig.worlds.finite import FiniteWorld, random_tables, two_chains

STATES = {"x": 3, "y": 4}


def lines(p):
    """The largest difference of the two sides of each line of Eq. (12)'s proof, at t = 2."""
    joint = p("x1 y1 | x2 y2")
    a = p("x1 | x2 y2") * p("y1 | x1 x2 y2")
    bayes = p("y1 | x1 y2") * p("x2 | x1 y1 y2") / p("x2 | x1 y2")
    proposition = p("x1 | x2 y2") * p("y1 | x1 y2")
    gaps = {
        "a": joint - a,
        "b": p("y1 | x1 x2 y2") - bayes,
        "c above": p("x2 | x1 y1 y2") - p("x2 | x1"),
        "c below": p("x2 | x1 y2") - p("x2 | x1"),
        "d": p("x2 | x1 y1 y2") - p("x2 | x1 y2"),
        "12": joint - proposition,
        # a guide that forgets y_t; a guider that does not see it
        "forgetful": joint - p("x1 | x2 y2") * p("y1 | x1"),
        "one-way": joint - p("x1 | x2") * p("y1 | x1 y2"),
    }
    return {line: gap.abs().max().item() for line, gap in gaps.items()}


@pytest.mark.parametrize("seed", range(100))
def test_every_line_of_eq_12_holds_in_a_random_world(seed):
    gaps = lines(FiniteWorld(random_tables(two_chains(3), STATES, seed)).p)
    assert all(gaps[line] < 1e-12 for line in ("a", "b", "c above", "c below", "d", "12"))
    assert gaps["forgetful"] > 1e-3 and gaps["one-way"] > 1e-3


ALL = {"c above", "c below", "d", "12"}
BROKEN = {  # which tables take the place of which, and the lines that fail
    "noise shared by both chains": (
        {"n2": "n2", "x2 | x1": "x2 | x1 n2", "y2 | y1": "y2 | y1 n2"},
        ALL,
    ),
    "an x-chain that is not Markov": ({"x2 | x1": "x2 | x1 x0"}, ALL),
    "an x-chain that depends on y_(t-1)": ({"x2 | x1": "x2 | x1 y1"}, ALL),
    "an x-chain that depends on y_t": ({"x2 | x1": "x2 | x1 y2"}, {"c above", "c below"}),
    "a y-chain that depends on x_t": ({"y2 | y1": "y2 | y1 x2"}, ALL),
    "a y-chain that depends on x_(t-1)": ({"y2 | y1": "y2 | y1 x1"}, set()),
    "a y-chain that is not Markov": ({"y2 | y1": "y2 | y1 y0"}, set()),
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("seed", range(20))
def test_a_broken_assumption_breaks_these_lines_and_no_others(broken, seed):
    change, fails = BROKEN[broken]
    keys = [key for key in two_chains(2) if key not in change] + list(change.values())
    gaps = lines(FiniteWorld(random_tables(keys, STATES | {"n": 3}, seed)).p)
    for line in ("a", "b", "c above", "c below", "d", "12"):
        assert gaps[line] > 1e-3 if line in fails else gaps[line] < 1e-12, line


def test_queries_are_sums_of_the_joint_table():
    world = FiniteWorld(random_tables(two_chains(1), STATES, 0))
    assert world.names == ["x0", "y0", "x1", "y1"] and abs(world.table.sum() - 1) < 1e-12
    x0, x1, y1 = 2, 1, 0
    by_hand = world.table[x0, :, x1, y1].sum() / world.table[:, :, x1, y1].sum()
    assert world.p("x0 | x1 y1")[x0, 0, x1, y1] == pytest.approx(by_hand.item(), abs=1e-15)
    assert world.p("y0").shape == (1, 4, 1, 1) and abs(world.p("y0").sum() - 1) < 1e-12


def test_a_table_that_is_not_a_probability_is_named():
    tables = random_tables(two_chains(1), STATES, 0)
    with pytest.raises(
        ValueError, match=r"'x1 \| x0' must be >= 0 and sum to 1 over x1: sums 2 to 2"
    ):
        FiniteWorld(tables | {"x1 | x0": 2 * tables["x1 | x0"]})


def test_a_variable_that_is_not_there_is_named():
    world = FiniteWorld(random_tables(two_chains(1), dict(x=2, y=2), 0))
    with pytest.raises(
        ValueError, match="'x1 . x9' cannot be answered: this world has .*, and no x9"
    ):
        world.p("x1 | x9")
