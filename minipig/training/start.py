"""RUN/pair.pt: what a finished run leaves to sampling, and to a training that goes on from it."""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from minipig.data.files import load_checkpoint, save_checkpoint
from minipig.data.pairs import Pairs
from minipig.extras.own_rules import version_of
from minipig.training.config import OLDER, Config, network
from minipig.unet import PairedUNet

GO_ON = 1 / 3  # the learning rate of a training that goes on, as a share of the one before


def save_pair(
    path: Path, config: Config, model_x: PairedUNet, model_y: PairedUNet, unseen: set[str]
) -> None:
    """Write the configuration, and the weights of both networks in half precision.

    unseen: hashes of the images that were held out, here and from the runs before.
    """
    saved = {"config": asdict(config), "unseen": sorted(unseen)}
    if version := version_of(config.rule):  # of a rule in a file, which may change
        saved["rule_version"] = version
    for name, net in (("model_x", model_x), ("model_y", model_y)):
        saved[name] = {key: value.half() for key, value in net.state_dict().items()}
    save_checkpoint(path, saved)


def weights_of(run: Path) -> str:
    """The hash of a finished run's weights: equal for a copy, different after another training."""
    saved = load_checkpoint(run / "pair.pt", {"model_x", "model_y"})
    digest = hashlib.sha256()
    for name in ("model_x", "model_y"):
        for key, value in saved[name].items():
            digest.update(key.encode() + value.numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Start:
    """A finished run, as sampling loads it and another training may go on from it.

    networks: model_x and model_y by name; unseen: hashes of the images that were held out.
    """

    folder: Path
    config: Config
    networks: dict[str, PairedUNet]
    rule_version: str
    unseen: set[str]

    def go_on(self, **options) -> Config:
        """The configuration of a training that goes on: this run's, at a lower rate, or `options`.

        Raises ValueError if they do not fit the networks, or would change who is held out.
        """
        before = self.config
        config = replace(before, rate=GO_ON * before.rate, start=weights_of(self.folder))
        config = replace(config, **options)
        for name in ("preset", "schedule"):
            if getattr(config, name) != getattr(before, name):
                problem = f"{self.folder} has networks of --{name} {getattr(before, name)}"
                raise ValueError(f"{problem}, not {getattr(config, name)}; leave --{name} out")
        drawn = config.data == before.data == "phantom"
        if drawn and config.seed != before.seed:  # other patients
            return config
        if not drawn and Path(config.data).resolve() != Path(before.data).resolve():
            return config
        if before.holdout == 0 < config.holdout:
            problem = f"{self.folder} was trained on all patients of {config.data}"
            remedy = "leave --holdout out, or give other --data"
            raise ValueError(f"{problem}, so none can be held out; {remedy}")
        same = ("holdout", "pairs") if drawn else ("holdout", "seed")
        if before.holdout and any(getattr(config, n) != getattr(before, n) for n in same):
            problem = f"other patients of {config.data} were held out from {self.folder}"
            remedy = f"leave {' and '.join('--' + name for name in same)} out"
            raise ValueError(f"{problem}; {remedy}, or give other --data")
        return config

    def refuse(self, pairs: Pairs) -> None:
        """Raise ValueError if one of these images was held out."""
        found = [n for n, image in zip(pairs.names, pairs.hashes()) if image in self.unseen]
        if found:
            problem = f"{len(found)} images that were held out from {self.folder}, such as"
            remedy = "keep its --holdout and --seed, and put new pairs into a folder of their own"
            raise ValueError(f"{problem} {found[0]}, would be trained on; {remedy}")


def load_start(folder: Path) -> Start:
    """Read a finished run. Raises FileNotFoundError or ValueError that says what to do."""
    path = folder / "pair.pt"
    if not path.exists():
        raise FileNotFoundError(missing(folder))
    saved = load_checkpoint(path, {"config", "model_x", "model_y"})
    try:
        config = Config(**OLDER | saved["config"])
        nets = {name: network(config, config.seed) for name in ("model_x", "model_y")}
        for name, net in nets.items():
            net.load_state_dict(saved[name])
    except (RuntimeError, TypeError, KeyError) as error:
        message = f"{path} was written by another version of minipig; train again"
        raise ValueError(message) from error
    unseen = set(saved.get("unseen", ()))  # older runs do not name them
    return Start(folder, config, nets, saved.get("rule_version", ""), unseen)


def missing(folder: Path) -> str:
    """Why `folder` has no pair.pt, and what to do."""
    if (folder / "pair").is_dir():
        return f"{folder} is a demo's folder; give its run, {folder / 'pair'}"
    if not folder.exists():
        return f"{folder} does not exist; train it first: minipig train --out {folder}"
    if not (folder / "config.json").exists():
        return f"{folder} is not a run; give the folder of a training"
    return f"{folder} has not finished training, or is not a run; repeat its train command"
