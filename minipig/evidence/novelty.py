"""Are samples new, or training slices again? A question of quality, and of patients' privacy."""

from pathlib import Path

from minipig.data.checks import held_out
from minipig.data.classical import with_deformed
from minipig.data.files import write_figure
from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence.metrics import nearest
from minipig.evidence.tables.drawing import SHOWN, sheet
from minipig.training.config import Config, load_data

FEWEST = 10  # held-out patients, below which nothing is said


def novelty(samples: Pairs, known: Pairs, strangers: Pairs) -> dict[str, float]:
    """How many samples are suspiciously near to a training slice. Distances are Euclidean.

    nearer: share of samples nearer to a training slice than to any stranger's; chance: the share of
    training slices among both, about what it is without copying; error: at most about its standard
    error, for so many samples and strangers (patients, since slices of one are alike). close: share
    of samples nearer to a training slice than any stranger is: 1 for a generator that copies.
    unknown: whether nobody has named the patients, so that each slice counts as one of its own.
    """
    to_known = nearest(samples.images, known.images).values
    to_strangers = nearest(samples.images, strangers.images).values
    nearest_stranger = nearest(strangers.images, known.images).values.min()
    chance = len(known) / (len(known) + len(strangers))
    patients = len(set(strangers.patients))
    return {
        "nearer": (to_known < to_strangers).double().mean().item(),
        "chance": chance,
        "error": (chance * (1 - chance) * (1 / len(samples) + 1 / patients)) ** 0.5,
        "close": (to_known < nearest_stranger).double().mean().item(),
        "strangers": patients,
        "unknown": set(strangers.patients) <= set(strangers.names),
    }


def too_few(found: dict[str, float]) -> str:
    """What is too few to tell copies, since chance alone may reach 100 %; or ""."""
    chance, patients = found["chance"], found["strangers"]
    fixed = (chance * (1 - chance) / patients) ** 0.5  # the error of any number of samples
    if patients < FEWEST or chance + 2 * fixed >= 1:
        held_out = f"{patients} held-out {'slices' if found.get('unknown') else 'patients'}"
        return f"{held_out} are too few to tell copies; train with a larger --holdout, or more data"
    if chance + 2 * found["error"] >= 1:
        return "so few samples cannot tell copies; raise -n"
    return ""


def verdict(found: dict[str, float]) -> str:
    """One sentence on the result of `novelty`."""
    shares = (
        f"{found['nearer']:.0%} of samples are nearer to a training slice than to a stranger's "
        f"({found['chance']:.0%} ± {found['error']:.0%} by chance), and {found['close']:.0%} "
        "nearer to one than any stranger's slice"
    )
    look = "look at nearest.png before you share"
    if found.get("unknown"):  # older files do not say
        look = f"patients are unknown, so strangers may be slices of few, or of known ones; {look}"
    few = too_few(found)
    if few and (found["strangers"] < FEWEST or found["close"] <= 0.5):
        return f"{few}; {look} [{shares}]"
    if found["close"] > 0.5:
        return f"the model repeats training slices; {look} [{shares}]"
    if found["nearer"] > found["chance"] + 2 * found["error"]:
        return f"the model leans towards its training slices; {look} [{shares}]"
    return f"no copying is seen, which is no proof of privacy; {look} [{shares}]"


def with_mirrored(pairs: Pairs) -> Pairs:
    """The pairs, and all of them mirrored left-right, as --mirror trains on."""
    turned = Pairs(pairs.masks.flip(-1), pairs.images.flip(-1), pairs.names, pairs.patients)
    return pairs + turned


def measure_novelty(
    out: Path, samples: Pairs, config: Config, content: str = ""
) -> dict[str, float] | None:
    """Print and return the novelty of a run's samples; draw OUT/nearest.png.

    The strangers are the held-out patients, or fresh phantoms; mirrored and deformed as the
    training pairs are. None if there are none, or if the training data cannot be read, or are no
    longer those of `content` (see load_data).
    """
    try:
        known, strangers = load_data(config, content)
    except (OSError, ValueError) as error:
        print(f"novelty is not measured: {error}")
        if isinstance(error, OSError):
            print("if the folder is elsewhere now, repeat the train command with its new --data")
        return None
    if strangers is None and config.data == "phantom":
        strangers = phantoms(len(known), config.size, held_out("novelty"))
    if strangers is None:
        print("novelty is not measured: no patients are held out; train with --holdout 0.1")
        return None
    if config.deformed:  # strangers' slices, too, as often
        as_often = round(config.deformed * len(strangers) / len(known))
        known = with_deformed(known, config.deformed, config.seed, None)
        strangers = with_deformed(strangers, as_often, config.seed, None)
    if config.mirror:
        known, strangers = with_mirrored(known), with_mirrored(strangers)
    found = novelty(samples, known, strangers)
    print(f"novelty: {verdict(found)}")
    if config.start:
        print("novelty: images that only the run before it was trained on are not compared")
    closest = nearest(samples.images, known.images)
    first = closest.values.argsort()[:SHOWN].tolist()  # the most suspicious
    shown = {"sample": samples.subset(first)}
    shown["nearest training slice"] = known.subset(closest.indices[first].tolist())
    write_figure(out / "nearest.png", sheet(shown))
    return found
