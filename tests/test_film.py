"""A film shows one pair from noise to its end, as a GIF and as a player."""

import numpy as np
import pytest
import torch
from PIL import Image

from minipig.rules import Clean
from minipig.sampler import PairModel, walk
from minipig.schedule import Schedule
from minipig.seeds import SampleNoise
from minipig.training.film import FRAMES, ICONS, LAST, player, write_film
from minipig.training.sampling import sample_folder

CPU = torch.device("cpu")


def pair():
    """A model whose masks have both values, in no time."""
    schedule = Schedule.linear()
    return PairModel(lambda z, t, y: 0.9 * z + 0.02 * y, lambda z, t, g: 0.9 * z, schedule, Clean())


@pytest.mark.parametrize("steps, frames", [(256, FRAMES), (5, 5), (1, 1)])
def test_a_film_shows_the_first_pair_from_noise_to_its_end(tmp_path, steps, frames):
    pairs = sample_folder(tmp_path, pair(), 2, (8, 16), steps, 0, CPU)
    write_film(tmp_path / "film.gif", pair(), pairs.size, steps, 0, CPU)
    assert [path.name for path in tmp_path.glob("*film*")] == ["film.gif"]  # and nothing beside it
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == frames and film.width == 400
        film.seek(frames - 1)
        assert film.info["duration"] == LAST
        last = np.asarray(film.convert("L")).astype(float)
    height, width = last.shape  # the slice's estimate is at the lower right
    y0_hat = pairs.images[0, 0].numpy()
    rows = slice(height * 9 // 16, height * 7 // 8)
    columns = slice(width * 9 // 16, width * 15 // 16)
    shown = last[rows, columns]
    assert abs(shown.mean() / 127.5 - 1 - y0_hat.mean()) < 0.25


def test_the_player_has_every_frame_and_loads_nothing():
    schedule = Schedule.linear()
    noise = SampleNoise(0, range(2))
    pair = PairModel(lambda z, t, g: z, lambda z, t, g: z, schedule, Clean())
    states = list(walk(pair, noise((1, 8, 12)), noise((1, 8, 12)), schedule.grid(5)))
    html = player(states)
    assert html.count("<img ") == html.count("<img alt=") == 1
    assert html.count("data:image/jpeg;base64") == 5 and 'type="range"' in html
    assert "http" not in html and "fa-" not in html  # no font of icons
    for icon in ICONS.values():
        assert icon in html
