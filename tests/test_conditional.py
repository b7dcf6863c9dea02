"""Completions keep what is given, and have the conditional law, known in the Gaussian world."""

import pytest
import torch

from minipig.extras.conditional import complete, given, knows
from minipig.extras.solvers import corrected, log_snr_grid, second_order
from minipig.rules import Clean
from minipig.sampler import PairModel
from minipig.schedule import Schedule
from minipig.seeds import SampleNoise, generator
from minipig.worlds.gaussian import Gaussian

SCHEDULE = Schedule.linear()
NAN = torch.nan
# two pixels in a mask, two in a slice
ROOT = torch.tensor([[0.9, 0, 0, 0], [0.3, 0.8, 0, 0], [0.6, -0.3, 0.6, 0], [0.1, 0.6, 0.5, 0.4]])
ROOT = ROOT.double()
MEAN = torch.tensor([0.3, -0.2, 0.1, 0.4]).double()
WORLD = Gaussian(ROOT @ ROOT.T, MEAN, shape=(1, 1, 2))


def row(*pixels: float) -> torch.Tensor:
    """A mask or slice of two pixels."""
    return torch.tensor(pixels, dtype=torch.float64).reshape(1, 1, 1, 2)


def law(pair: PairModel, mask, slice_, grid: list[int], corrections: int):
    """Mean (4,) and covariance (4, 4) at the end of the corrected walk, without sampling.

    In this world a step is an affine map of its start and of the noise of its corrections. A batch
    of one walk for each input, and one more with all inputs 0, gives the map.
    """
    inputs = 4 + 4 * corrections
    batch = (inputs + 1, -1, -1, -1)
    knowing = given(pair, *(z0 if z0 is None else z0.expand(batch) for z0 in (mask, slice_)))
    mean = torch.zeros(4).double()
    covariance = torch.eye(4).double()
    for t, s in zip(grid, grid[1:]):
        starts = torch.cat([torch.zeros(1, inputs), torch.eye(inputs)]).double()
        columns = iter(starts.split(2, dim=1))

        def noise(shape, columns=columns):
            return next(columns).reshape(-1, *shape)

        x, y = noise((1, 1, 2)), noise((1, 1, 2))
        (state,) = corrected(knowing, x, y, [t, s], noise, corrections, clip=False)
        ends = torch.cat([state.x_next.flatten(1), state.y_next.flatten(1)], 1)
        M = (ends[1:] - ends[0]).T
        of_state, of_noise = M[:, :4], M[:, 4:]
        mean = ends[0] + of_state @ mean
        covariance = of_state @ covariance @ of_state.T + of_noise @ of_noise.T
    return mean, covariance


def truth(mask, slice_):
    """Mean and covariance of the pair, given the pixels that are not NaN."""
    unknown = torch.full((2,), NAN).double()
    z = torch.cat([unknown if z0 is None else z0.flatten() for z0 in (mask, slice_)])
    seen = ~z.isnan()
    pixels = torch.cat([WORLD.x0, WORLD.y0])
    mean, covariance = WORLD.given(pixels, pixels[seen], z[seen][None])
    return mean[0], covariance


def error(found, wanted) -> float:
    """The largest difference in mean or covariance."""
    return max((a - b).abs().max().item() for a, b in zip(found, wanted))


# --- the conditional laws ----------------------------------------------------------------------


def test_a_slice_for_a_given_mask_has_the_conditional_law_in_one_walk():
    mask = row(0.9, -1.1)
    wanted = truth(mask, None)

    def off(guide, steps):
        return error(law(WORLD.pair(guide), mask, None, SCHEDULE.grid(steps), 0), wanted)

    coarse, fine = off("clean", 64), off("clean", 256)
    assert fine < 0.6 * coarse and fine < 0.01
    assert off("joint", 256) > 10 * fine  # x_t is not x0


@pytest.mark.parametrize(
    "guide, mask, slice_",
    [("joint", None, row(1.2, -0.7)), ("clean", row(0.9, -1.1), row(1.2, NAN))],
)
def test_a_given_slice_or_a_part_of_it_needs_corrections(guide, mask, slice_):
    wanted = truth(mask, slice_)
    grid = log_snr_grid(SCHEDULE, 64)
    found = [error(law(WORLD.pair(guide), mask, slice_, grid, n), wanted) for n in (0, 4, 16)]
    assert found[1] < 0.5 * found[0] and found[2] < 0.5 * found[1] and found[2] < 0.1 * found[0]
    if mask is None:  # without corrections, it is far off
        assert found[0] > 0.3 * error(truth(None, None), wanted)


# --- what is given is kept ---------------------------------------------------------------------


def test_given_pixels_are_kept_and_the_others_are_left_to_the_model():
    z0 = torch.tensor([[0.5, NAN], [NAN, -1.0]]).reshape(2, 1, 1, 2)
    z = torch.randn(2, 1, 1, 2, generator=generator("z"))
    kept = ~z0.isnan()
    denoiser = knows(z0, SCHEDULE, lambda z, t, guide: 7 * torch.ones_like(z))
    for t in (1, 300, 1024):
        eps = denoiser(z, torch.full((2,), t), z)
        assert torch.allclose(SCHEDULE.x0_hat(z, t, eps)[kept], z0[kept], atol=1e-3)
        assert (eps[~kept] == 7).all()


def unreachable(z, t, guide):
    raise AssertionError("a chain that is given needs no network")


def shrink(z, t, guide):
    return 0.5 * z + 0.1 * guide


MASK = torch.tensor([1.0, -1, 1, -1]).reshape(1, 1, 2, 2).repeat(3, 1, 1, 1)
SLICE = torch.linspace(-1, 1, 12).reshape(3, 1, 2, 2)
PAIR = PairModel(shrink, shrink, SCHEDULE, Clean())


def test_complete_returns_what_was_given_and_calls_no_network_for_it():
    drawn, made = complete(PairModel(unreachable, shrink, SCHEDULE, Clean()), mask=MASK, steps=4)
    assert torch.equal(drawn, MASK) and made.shape == MASK.shape and made.abs().max() <= 1
    pair = PairModel(shrink, unreachable, SCHEDULE, Clean())
    drawn, made = complete(pair, slice_=SLICE, steps=4, corrections=2)
    assert torch.allclose(made, SLICE, atol=1e-5) and drawn.abs().eq(1).all()
    part = SLICE.clone()
    part[:, :, 0] = NAN
    _, made = complete(PAIR, MASK, part, steps=4, corrections=1)
    assert torch.allclose(made[:, :, 1], SLICE[:, :, 1], atol=1e-5)
    assert not torch.allclose(made[:, :, 0], SLICE[:, :, 0])


@pytest.mark.parametrize("first, rows", [(0, slice(0, 2)), (2, slice(2, 3))])
def test_a_completion_depends_on_its_number_alone(first, rows):
    whole = complete(PAIR, slice_=SLICE, steps=4, corrections=1, seed=5, batch=2)
    part = complete(PAIR, slice_=SLICE[rows], steps=4, corrections=1, seed=5, first=first)
    assert all(torch.allclose(a[rows], b, atol=1e-6) for a, b in zip(whole, part))
    a, b = (complete(PAIR, mask=MASK, steps=4, seed=seed)[1] for seed in (5, 6))
    assert not torch.allclose(a, b)


def test_the_corrected_walk_has_its_noise_in_order():
    """By hand: x_T, y_T, then that of the corrections."""
    noise = SampleNoise(7, range(3))
    part = torch.where(torch.arange(12).reshape(3, 1, 2, 2) % 2 == 0, NAN, SLICE)
    start = (noise((1, 2, 2)), noise((1, 2, 2)))
    walk = corrected(given(PAIR, slice_=part), *start, log_snr_grid(SCHEDULE, 4), noise, 2)
    *_, last = walk
    made = complete(PAIR, slice_=part, steps=4, corrections=2, seed=7)[1]
    assert torch.allclose(made, last.y0_hat, atol=1e-6)


def test_without_corrections_the_walk_is_of_second_order():
    noise = SampleNoise(7, range(3))
    start = (noise((1, 2, 2)), noise((1, 2, 2)))
    *_, last = second_order(given(PAIR, mask=MASK), *start, log_snr_grid(SCHEDULE, 25))
    assert torch.allclose(complete(PAIR, mask=MASK, seed=7)[1], last.y0_hat, atol=1e-6)


@pytest.mark.parametrize("mask, slice_", [(None, SLICE), (torch.where(MASK > 0, MASK, NAN), None)])
def test_a_given_slice_or_a_part_of_a_mask_has_corrections_by_default(mask, slice_):
    levels = []
    model_x = lambda z, t, guide: levels.append(int(t[0])) or z  # noqa: E731
    complete(PairModel(model_x, shrink, SCHEDULE, Clean()), mask, slice_)
    assert levels == [t for t in log_snr_grid(SCHEDULE, 64)[:-1] for _ in range(17)]


@pytest.mark.parametrize(
    "mask, slice_, settings, message",
    [
        (None, None, {}, "no mask and no slice is given; .* sampler.sample"),
        (MASK, SLICE[:, :, :1], {}, r"\(3, 1, 2, 2\) on cpu, \(3, 1, 1, 2\) on cpu"),
        ((MASK + 1) / 2, None, {}, "masks must be ±1, .* not 0$"),
        (MASK > 0, None, {}, "masks must be ±1, not True and False: give 2.0"),
        (None, 100 * SLICE, {}, r"slices must be in \[-1, 1\], .* not -100"),
        (MASK, None, dict(steps=0), "sampling steps must be from 1 to 1024, not 0"),
        (MASK, None, dict(corrections=-1), "corrections must be 0 or more, not -1"),
    ],
)
def test_what_cannot_be_completed_is_refused(mask, slice_, settings, message):
    with pytest.raises(ValueError, match=message):
        complete(PAIR, mask, slice_, **settings)


def test_double_precision_is_accepted():
    assert complete(PAIR, mask=MASK.double(), steps=2)[1].dtype == torch.float32
