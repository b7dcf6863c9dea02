"""Pictures of finite worlds: an arrow for each dependence, a number for each probability."""

import matplotlib.pyplot as plt
import pytest
import torch

from minipig.worlds.drawing import draw_graph, draw_table
from minipig.worlds.finite import two_chains


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


def arrows(ax):
    """(from, to, width) of each arrow."""
    drawn = [note for note in ax.texts if note.arrow_patch is not None]
    return {(note.xyann, note.xy, note.arrow_patch.get_linewidth()) for note in drawn}


def test_a_graph_has_an_arrow_from_each_name_behind_a_bar(ax):
    draw_graph(ax, two_chains(2), "title")
    steps = {((t - 1, row), (t, row), 1) for t in (1, 2) for row in (0, 1)}
    assert arrows(ax) == steps | {((0, 0), (0, 1), 1)}
    assert {note.get_text() for note in ax.texts if note.get_text()} == {
        f"${z}_{t}$" for z in "xy" for t in range(3)
    }
    assert ax.get_title() == "title"


def test_tables_that_eq_8_does_not_have_are_bold(ax):
    draw_graph(ax, ["x0 y0", "x1 | x0", "n1", "y1 | y0 n1"])
    assert {(start, width) for start, _, width in arrows(ax)} == {
        ((0, 0), 1),
        ((0, 1), 1),
        ((0, 0), 2),
        ((0.5, 0.5), 2),
    }


def test_a_table_says_each_probability(ax):
    draw_table(ax, torch.tensor([[0.25, 0.05], [0.1, 0.6]]), ["a", "b"], ["c", "d"], "p")
    assert [note.get_text() for note in ax.texts] == [".25", ".05", ".10", ".60"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
