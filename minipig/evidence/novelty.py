"""Are samples new, or training slices again? A question of quality, and of patients' privacy."""

from pathlib import Path

from minipig.data.checks import held_out
from minipig.data.files import write_figure
from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence.metrics import nearest
from minipig.evidence.tables.sheets import SHOWN, sheet
from minipig.training.config import Config, load_data

RARE = 0.05


def novelty(samples: Pairs, known: Pairs, strangers: Pairs) -> dict[str, float]:
    """How many samples are suspiciously near to a training slice. Distances are Euclidean.

    nearer: share of samples nearer to a training slice than to any stranger's; chance: the share of
    training slices among both, about what it is without copying; error: about its standard error
    for so many samples and strangers. close: share of samples that are nearer to a training slice
    than all but RARE of the strangers are: 1 for a generator that copies, RARE without copying, and
    something more for one that draws too smoothly.
    """
    to_known = nearest(samples.images, known.images).values
    to_strangers = nearest(samples.images, strangers.images).values
    rarely = nearest(strangers.images, known.images).values.quantile(RARE)
    chance = len(known) / (len(known) + len(strangers))
    found = {"nearer": (to_known < to_strangers).double().mean().item(), "chance": chance}
    found["error"] = (chance * (1 - chance) * noise(samples, strangers)) ** 0.5
    found["close"] = (to_known < rarely).double().mean().item()
    found["close_error"] = (RARE * (1 - RARE) * noise(samples, strangers)) ** 0.5
    return found


def noise(samples: Pairs, strangers: Pairs) -> float:
    """The variance of a share by so many samples and strangers, for a coin of variance 1."""
    return 1 / len(samples) + 1 / len(strangers)


def verdict(found: dict[str, float]) -> str:
    """One sentence on the result of `novelty`."""
    shares = (
        f"{found['nearer']:.0%} of the samples are nearer to a training slice than to strangers' "
        f"({found['chance']:.0%} ± {found['error']:.0%} by chance), and {found['close']:.0%} so "
        f"near as few strangers are ({RARE:.0%} ± {found['close_error']:.0%})"
    )
    leans = found["nearer"] > found["chance"] + 2 * found["error"]
    if found["close"] > 0.5:
        return f"{shares}: the model repeats training slices; look at nearest.png before you share"
    if leans or found["close"] > RARE + 2 * found["close_error"]:
        return f"{shares}: the model leans towards them; look at nearest.png before you share"
    return f"{shares}: no copying is seen, which is no proof of privacy; look at nearest.png"


def measure_novelty(out: Path, samples: Pairs, config: Config) -> dict[str, float] | None:
    """Print and return the novelty of a run's samples; draw OUT/nearest.png.

    The strangers are the held-out patients, or fresh phantoms. None if there are none, or if the
    training data cannot be read.
    """
    try:
        known, strangers = load_data(config)
    except (OSError, ValueError) as error:
        print(f"novelty is not measured: {error}")
        return None
    if strangers is None and config.data == "phantom":
        strangers = phantoms(len(known), config.size, held_out("novelty"))
    if strangers is None:
        print("novelty is not measured: no patients are held out; train with --holdout 0.1")
        return None
    found = novelty(samples, known, strangers)
    print(f"novelty: {verdict(found)}")
    closest = nearest(samples.images, known.images)
    first = closest.values.argsort()[:SHOWN].tolist()  # the most suspicious
    shown = {"sample": samples.subset(first)}
    shown["nearest training slice"] = known.subset(closest.indices[first].tolist())
    write_figure(out / "nearest.png", sheet(shown))
    return found
