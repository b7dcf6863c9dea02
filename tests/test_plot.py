"""Figures hold what they promise: every pair, the asked steps, labelled axes."""

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from minipig import plot
from minipig.data.files import write_figure
from minipig.data.phantoms import phantoms
from minipig.rules import Clean
from minipig.sampler import PairModel, walk
from minipig.schedule import Schedule
from minipig.seeds import SampleNoise
from minipig.unet import PRESETS, PairedUNet

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    matplotlib.pyplot.close("all")


def test_pair_grid_shows_each_pair_once(tmp_path):
    x0, y0 = phantoms(5)[:]
    x0[4] = -1  # an empty mask has no contour, and no warning
    figure = plot.pair_grid(x0, y0, columns=3, title="five")
    pictures = [ax for ax in figure.axes if ax.images]
    assert len(pictures) == 10
    assert np.array_equal(pictures[0].images[0].get_array(), y0[0, 0])
    assert len(pictures[0].collections) == 2
    outlined = [ax for ax in pictures if ax.collections]
    assert len(outlined) == 4
    assert not any(np.array_equal(ax.images[0].get_array(), y0[4, 0]) for ax in outlined)
    write_figure(tmp_path / "grid.png", figure)
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width > 300
    assert not matplotlib.pyplot.fignum_exists(figure.number)


def test_figure_3_shows_the_asked_steps():
    schedule = Schedule.linear()
    noise = SampleNoise(0, range(2))
    pair = PairModel(lambda z, t, g: z, lambda z, t, g: z, schedule, Clean())
    states = list(walk(pair, noise((1, 8, 8)), noise((1, 8, 8)), schedule.grid(8)))
    figure = plot.figure_3(states, at=(2, 4, 8))
    assert [ax.get_title()[:6] for ax in figure.axes[:6:2]] == ["step 2", "step 4", "step 8"]
    assert np.array_equal(figure.axes[4].images[0].get_array(), states[7].x0_hat[0, 0])
    assert np.array_equal(figure.axes[5].images[0].get_array(), states[7].y0_hat[0, 0])


def test_the_method_figure_has_a_column_for_each_state():
    schedule = Schedule.linear()
    noise = SampleNoise(0, range(2))
    pair = PairModel(lambda z, t, g: z, lambda z, t, g: z, schedule, Clean())
    states = list(walk(pair, noise((1, 8, 12)), noise((1, 8, 12)), schedule.grid(8)))
    shown = [states[0], states[3], states[7]]
    (ax,) = plot.method_figure(shown).axes
    pictures = [inset.images[0].get_array() for inset in ax.child_axes]
    for k, state in enumerate(shown):
        told = (state.yt, state.y0_hat, state.x0_hat, state.xt)
        for picture, image in zip(pictures[4 * k : 4 * k + 4], told, strict=True):
            assert np.array_equal(picture, image[0, 0])
    texts = [text.get_text() for text in ax.texts]
    assert [text for text in texts if "$t$" in text] == [f"$t$ = {s.t}" for s in shown]
    for words, count in (("model_x", 3), ("Eq. (6)", 2), ("Eq. (7)", 4), ("guides", 1)):
        assert texts.count(words) == count, words


@pytest.mark.parametrize("preset, size", [("tiny", (16, 24)), ("paper", (64, 64))])
def test_the_network_figure_tells_the_shapes_that_the_network_has(preset, size):
    """The shapes are those of the tensors that come out of each level."""
    net = PairedUNet(**PRESETS[preset])
    shapes = []
    for stage in (*net.down, *net.middle, *net.up):
        stage.register_forward_hook(lambda stage, given, h: shapes.append(h.shape[1:]))
    image = torch.zeros(1, 1, *size)
    with torch.no_grad():
        net(image, torch.ones(1, dtype=torch.long), image)
    (ax,) = plot.unet_figure(net, size).axes
    lines = [text.get_text().split("\n") for text in ax.texts]
    boxes = [
        both for both in lines if len(both) == 2 and both[1][0].isdigit() and "block" in both[1]
    ]
    assert len(boxes) == 2 * len(PRESETS[preset]["mults"])
    assert {first for first, _ in boxes} == {" × ".join(map(str, shape)) for shape in shapes}
    assert sum(int(blocks.split()[0]) for _, blocks in boxes) == len(net.down) + len(net.up)
    grey = sum(patch.get_facecolor()[0] < 1 for patch in ax.patches)
    assert grey == 2 * len(PRESETS[preset]["attention"]) + 1  # both sides, and the middle
    with pytest.raises(ValueError, match="sides must be multiples of"):
        plot.unet_figure(net, (31, 32))


def test_loss_curves_are_labelled_running_means():
    losses = {"model_x": [1.0, 2.0, 3.0, 4.0] * 25, "model_y": [2.0] * 100}
    figure = plot.loss_curves(losses, window=4)
    ax = figure.axes[0]
    assert ax.get_xlabel() and ax.get_ylabel() and len(ax.get_legend().get_texts()) == 2
    assert torch.allclose(torch.as_tensor(ax.lines[0].get_ydata()), torch.tensor(2.5).double())


def test_held_out_losses_are_points_and_the_lowest_is_named():
    losses = {"model_x": [1.0] * 100, "model_y": [1.0] * 100}
    ax = plot.loss_curves(losses, held_out={"model_y": {25: 0.5, 50: 0.2, 75: 0.9}}).axes[0]
    assert ax.get_xscale() == "linear" and ax.get_yscale() == "log"
    assert [list(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) < 9] == [
        [25, 50, 75],
        [50],
    ]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    last = "model_y, held out;\nlowest at step 50"
    assert labels == ["model_x, training pairs", "model_y, training pairs", last]
