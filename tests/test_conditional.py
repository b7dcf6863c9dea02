"""What is given is kept, and what is drawn has the conditional law: checked in the Gaussian world, where that is known."""

import pytest
import torch

from minipig.conditional import complete, given, knows
from minipig.exact import Gaussian
from minipig.guider import Clean
from minipig.sampler import PairModel, corrected, walk
from minipig.schedule import Schedule
from minipig.seeds import SampleNoise, generator

SCHEDULE, NAN = Schedule(), torch.nan
ROOT = torch.tensor([[0.9, 0, 0, 0], [0.3, 0.8, 0, 0], [0.6, -0.3, 0.6, 0], [0.1, 0.6, 0.5, 0.4]]).double()
WORLD = Gaussian(ROOT @ ROOT.T, torch.tensor([0.3, -0.2, 0.1, 0.4]).double(), shape=(1, 1, 2))  # two pixels a mask or slice


def row(*pixels: float) -> torch.Tensor:
    """A mask or slice of two pixels."""
    return torch.tensor(pixels, dtype=torch.float64).reshape(1, 1, 1, 2)


def law(pair: PairModel, mask, slice_, grid: list[int], corrections: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (4,) and covariance (4, 4) of x0_hat and y0_hat at the end of the corrected walk: exact, nothing is sampled.

    In this world a step is an affine map of where it starts and of the noise of its corrections, so that a walk of as many
    starts as it has inputs, and one more, tells all.
    """
    inputs = 4 + 4 * corrections
    mean, covariance = torch.zeros(4).double(), torch.eye(4).double()
    for t, s in zip(grid, grid[1:]):
        columns = iter(torch.cat([torch.zeros(1, inputs), torch.eye(inputs)]).double().split(2, dim=1))

        def noise(shape, columns=columns):
            return next(columns).reshape(-1, *shape)

        knowing = given(pair, *(z0 if z0 is None else z0.expand(inputs + 1, -1, -1, -1) for z0 in (mask, slice_)))
        (state,) = corrected(knowing, noise((1, 1, 2)), noise((1, 1, 2)), [t, s], noise, corrections, clip=False)
        ends = torch.cat([state.x_next.flatten(1), state.y_next.flatten(1)], 1)
        M = (ends[1:] - ends[0]).T
        mean, covariance = ends[0] + M[:, :4] @ mean, M[:, :4] @ covariance @ M[:, :4].T + M[:, 4:] @ M[:, 4:].T
    return mean, covariance


def truth(mask, slice_) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of the pair, given the pixels that are numbers."""
    z = torch.cat([torch.full((2,), NAN) if z0 is None else z0.flatten() for z0 in (mask, slice_)]).double()
    seen = ~z.isnan()
    pixels = torch.cat([WORLD.x0, WORLD.y0])
    mean, covariance = WORLD.given(pixels, pixels[seen], z[seen][None])
    return mean[0], covariance


def error(found, wanted) -> float:
    """The largest difference in mean or covariance."""
    return max((a - b).abs().max().item() for a, b in zip(found, wanted))


# ---- the conditionals


def test_a_slice_for_a_given_mask_has_the_conditional_law_in_one_walk():
    mask = row(0.9, -1.1)
    wanted = truth(mask, None)
    errors = [error(law(WORLD.pair("clean"), mask, None, SCHEDULE.grid(n), 0), wanted) for n in (64, 256)]
    assert errors[1] < 0.6 * errors[0] and errors[1] < 0.01
    assert error(law(WORLD.pair("joint"), mask, None, SCHEDULE.grid(256), 0), wanted) > 10 * errors[1]  # x_t is not x0


def test_a_mask_for_a_given_slice_needs_corrections():
    slice_ = row(1.2, -0.7)
    wanted, unconditional = truth(None, slice_), truth(None, None)
    found = [error(law(WORLD.pair("joint"), None, slice_, SCHEDULE.grid(64, "log-snr"), n), wanted) for n in (0, 4, 16)]
    assert found[0] > 0.3 * error(unconditional, wanted)  # without, it is far off
    assert all(b < 0.5 * a for a, b in zip(found, found[1:])) and found[-1] < 0.1 * found[0], found


def test_a_part_of_the_slice_may_be_given_beside_the_mask():
    mask, slice_ = row(0.9, -1.1), row(1.2, NAN)
    wanted = truth(mask, slice_)
    grid = SCHEDULE.grid(64, "log-snr")
    found = [error(law(WORLD.pair("clean"), mask, slice_, grid, n), wanted) for n in (0, 4, 16)]
    assert all(b < 0.5 * a for a, b in zip(found, found[1:])) and found[-1] < 0.1 * found[0], found


# ---- what is given is kept


def test_given_pixels_are_kept_and_the_others_are_left_to_the_model():
    z0 = torch.tensor([[0.5, NAN], [NAN, -1.0]]).reshape(2, 1, 1, 2)
    z = torch.randn(2, 1, 1, 2, generator=generator("z"))
    for t in (1, 300, 1024):
        eps = knows(z0, SCHEDULE, lambda z, t, guide: 7 * torch.ones_like(z))(z, torch.full((2,), t), z)
        kept = ~z0.isnan()
        assert torch.allclose(SCHEDULE.x0_hat(z, t, eps)[kept], z0[kept], atol=1e-3) and (eps[~kept] == 7).all()


def unreachable(z, t, guide):
    raise AssertionError("a chain that is known needs no network")


def shrink(z, t, guide):
    return 0.5 * z + 0.1 * guide


MASK = torch.tensor([1.0, -1, 1, -1]).reshape(1, 1, 2, 2).repeat(3, 1, 1, 1)
SLICE = torch.linspace(-1, 1, 12).reshape(3, 1, 2, 2)
PAIR = PairModel(shrink, shrink, SCHEDULE, Clean())


def test_complete_returns_what_was_given_and_asks_no_network_for_it():
    drawn, made = complete(PairModel(unreachable, shrink, SCHEDULE, Clean()), mask=MASK, steps=4)
    assert torch.equal(drawn, MASK) and made.shape == MASK.shape and made.abs().max() <= 1
    drawn, made = complete(PairModel(shrink, unreachable, SCHEDULE, Clean()), slice_=SLICE, steps=4, corrections=2)
    assert torch.allclose(made, SLICE, atol=1e-5) and drawn.abs().eq(1).all()
    keep = SLICE.clone()
    keep[:, :, 0] = NAN
    _, made = complete(PAIR, MASK, keep, steps=4, corrections=1)
    assert torch.allclose(made[:, :, 1], SLICE[:, :, 1], atol=1e-5) and not torch.allclose(made[:, :, 0], SLICE[:, :, 0])


@pytest.mark.parametrize("first, rows", [(0, slice(0, 2)), (2, slice(2, 3))])
def test_a_completion_depends_on_its_number_alone(first, rows):
    whole = complete(PAIR, slice_=SLICE, steps=4, corrections=1, seed=5, batch=2)
    part = complete(PAIR, slice_=SLICE[rows], steps=4, corrections=1, seed=5, first=first)
    assert all(torch.allclose(a[rows], b, atol=1e-6) for a, b in zip(whole, part))
    assert not torch.allclose(*(complete(PAIR, mask=MASK, steps=4, seed=seed)[1] for seed in (5, 6)))


def test_complete_walks_as_its_corrections_say():
    """By hand: the corrected walk, with its noise in the order of x_T, y_T, corrections; and second order without any."""
    noise, grid = SampleNoise(7, range(3)), SCHEDULE.grid(4, "log-snr")
    keep = torch.where(torch.arange(12).reshape(3, 1, 2, 2) % 2 == 0, NAN, SLICE)
    *_, last = corrected(given(PAIR, slice_=keep), noise((1, 2, 2)), noise((1, 2, 2)), grid, noise, 2)
    assert torch.allclose(complete(PAIR, slice_=keep, steps=4, corrections=2, seed=7)[1], last.y0_hat, atol=1e-6)
    noise = SampleNoise(7, range(3))
    *_, last = walk(given(PAIR, mask=MASK), noise((1, 2, 2)), noise((1, 2, 2)), SCHEDULE.grid(25, "log-snr"), order=2)
    assert torch.allclose(complete(PAIR, mask=MASK, seed=7)[1], last.y0_hat, atol=1e-6)
    asked = []
    listening = PairModel(lambda z, t, guide: asked.append(int(t[0])) or z, shrink, SCHEDULE, Clean())
    complete(listening, slice_=SLICE)
    assert asked == [t for t in SCHEDULE.grid(64, "log-snr")[:-1] for _ in range(17)]
    asked.clear()
    complete(listening, mask=torch.where(MASK > 0, MASK, NAN))  # a part of a mask needs corrections as well
    assert len(asked) == 64 * 17
    for wrong in (dict(steps=0), dict(corrections=-1)):
        with pytest.raises(ValueError, match="steps|corrections"):
            complete(PAIR, mask=MASK, **wrong)


@pytest.mark.parametrize(
    "mask, slice_, says",
    [
        (None, None, "sampler.sample"),
        (torch.ones(2, 1, 4, 4), torch.ones(2, 1, 4, 8), r"\(2, 1, 4, 4\) on cpu, and \(2, 1, 4, 8\)"),
        ((MASK + 1) / 2, None, "a mask is ±1.* not 0$"),
        (MASK > 0, None, "a mask is ±1 here, not True and False"),
        (None, 100 * SLICE, r"a slice is in \[-1, 1\].* not -100"),
    ],
)
def test_what_cannot_be_completed_is_refused(mask, slice_, says):
    with pytest.raises(ValueError, match=says):
        complete(PAIR, mask, slice_)


def test_numbers_of_double_precision_are_taken():
    assert complete(PAIR, mask=MASK.double(), steps=2)[1].dtype == torch.float32
