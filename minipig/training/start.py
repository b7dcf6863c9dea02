"""RUN/pair.pt: what a finished run leaves to sampling, and to a training that goes on from it."""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from minipig.data.files import load_checkpoint, save_checkpoint
from minipig.data.pairs import Pairs
from minipig.training.config import OLDER, Config, network
from minipig.unet import PairedUNet

OF_NETWORKS = ("preset", "schedule")  # settings that a training which goes on cannot change
GO_ON = 1 / 3  # the learning rate of a training that goes on, as a share of the one before


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

    networks: model_x and model_y by name. seen and unseen: the sources of the images that were
    trained on and held out, here and by the runs before. content: see `content_of` of config.py.
    """

    folder: Path
    config: Config
    networks: dict[str, PairedUNet]
    rule_version: str  # of a rule in a file, which may change
    seen: set[str]
    unseen: set[str]
    content: str

    def save(self) -> None:
        """Write folder/pair.pt; the weights in half precision."""
        saved = {"config": asdict(self.config), "rule_version": self.rule_version}
        saved |= {"seen": sorted(self.seen), "unseen": sorted(self.unseen), "content": self.content}
        for name, net in self.networks.items():
            saved[name] = {key: value.half() for key, value in net.state_dict().items()}
        save_checkpoint(self.folder / "pair.pt", saved)

    def go_on(self, **options) -> Config:
        """The configuration of a training that goes on: this run's, at a lower rate, or `options`.

        Raises ValueError if they do not fit the networks.
        """
        before = self.config
        config = replace(before, rate=GO_ON * before.rate, start=weights_of(self.folder))
        config = replace(config, **options)
        for name in OF_NETWORKS:
            if getattr(config, name) != getattr(before, name):
                problem = f"{self.folder} has networks of --{name} {getattr(before, name)}"
                raise ValueError(f"{problem}, not {getattr(config, name)}; leave --{name} out")
        return config

    def fits(self, config: Config) -> bool:
        """Whether a training of this configuration could go on from the run's networks."""
        return all(getattr(config, name) == getattr(self.config, name) for name in OF_NETWORKS)

    def refuse(self, pairs: Pairs, held_out: Pairs | None) -> None:
        """Raise ValueError if an image to learn was held out, or one to hold out was learnt."""
        learnt = (pairs, self.unseen, "held out", "trained on")
        for part, others, before, now in (learnt, (held_out, self.seen, "trained on", "held out")):
            known = zip(part.names, part.known_by()) if part else ()
            if found := [name for name, source in known if source in others]:
                problem = f"{len(found)} images, such as {found[0]}, were {before} by {self.folder}"
                remedy = "leave --holdout, --seed and --pairs out, or give other pairs"
                raise ValueError(f"{problem} and would now be {now}; {remedy}")


def load_start(folder: Path | str) -> Start:
    """Read a finished run. Raises FileNotFoundError or ValueError that says what to do."""
    folder = Path(folder)
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
    seen, unseen = (set(saved.get(name, ())) for name in ("seen", "unseen"))  # none in older runs
    rule_version, content = (saved.get(name, "") for name in ("rule_version", "content"))
    return Start(folder, config, nets, rule_version, seen, unseen, content)


def missing(folder: Path) -> str:
    """Why `folder` has no pair.pt, and what to do."""
    if (folder / "pair").is_dir():
        return f"{folder} is a demo's folder; give its run, {folder / 'pair'}"
    if not folder.exists():
        return f"{folder} does not exist; train it first: minipig train --out {folder}"
    if not (folder / "config.json").exists():
        return f"{folder} is not a run; give the folder of a training"
    return f"{folder} has not finished training, or is not a run; repeat its train command"
