"""A run: one folder with its configuration, both trainings, and the finished pair model.

RUN/config.json   the configuration: enough to repeat the run
RUN/model_x.ckpt  the state of the guider's training, for resuming; model_y.ckpt likewise
RUN/model_x.best  the guider's held-out losses, and its averaged weights at the lowest; model_y.best
RUN/losses.csv    the losses of every step so far; losses.png: their curves
RUN/pair.pt       the averaged weights of both networks, in half precision: what sampling needs, and
                  a training that goes on from the run
"""

import hashlib
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Iterator

import torch

from minipig.data.classical import with_deformed
from minipig.data.files import claim_folder, load_checkpoint, save_checkpoint
from minipig.data.pairs import Pairs
from minipig.extras.own_rules import find_rule, name_of, version_of
from minipig.guider import model_x_loss
from minipig.rules import GuideRule, loss_of, trained_as
from minipig.sampler import PairModel
from minipig.training.choice import told
from minipig.training.config import Config, content_of, network
from minipig.training.curves import write_curves
from minipig.training.devices import rank, wait_for_all
from minipig.training.held_out import HeldOut, steps_between
from minipig.training.loop import Progress, Training, finish, fit
from minipig.training.memory import keep_freed_memory
from minipig.training.speed import Speed
from minipig.unet import PairedUNet

REDRAW = 200  # steps from one picture of the losses to the next
OF_NETWORKS = ("preset", "schedule")  # settings that a training which goes on cannot change


def train_pair(
    folder: Path,
    config: Config,
    pairs: Pairs,
    device: torch.device,
    speed: Speed = Speed(),
    held_out: Pairs | None = None,
    start: "Start | None" = None,
) -> PairModel:
    """Train the guider, then model_y under the configured rule, in `folder`; resumes.

    held_out: pairs of other patients, to measure both trainings on. start: the run whose weights
    they begin with, that of config.start. Prints one line for each network. Process 0 writes the
    files named above. Raises ValueError as `Start.refuse` does.
    """
    rule, version = find_rule(config.rule)(), version_of(config.rule)
    content = content_of(config, pairs, held_out)
    seen, unseen = set(pairs.known_by()), set(held_out.known_by() if held_out else ())
    if start is not None:
        start.refuse(pairs, held_out)
        seen, unseen = seen | start.seen, unseen | start.unseen
    first = rank()[0] == 0
    if first:
        versioned = {"rule_version": version} if version else {}
        remedy = "--out"
        with suppress(OSError, ValueError):  # no finished run that could be read
            if load_start(folder).fits(config):
                remedy = f"--out, or go on from this run: --from {quoted(folder)} and another --out"
        claim_folder(folder, asdict(config) | versioned, remedy, content=content)
    wait_for_all()
    learnt = with_deformed(pairs, config.deformed, config.seed, None)
    losses, points = {}, {}

    def drawn(steps: Iterator[Progress], name: str) -> Iterator[Progress]:
        """The same steps; every REDRAW of them the losses so far are written and drawn."""
        with closing(steps):
            for progress in steps:
                due = first and progress.step % REDRAW == 0
                if due and progress.losses:  # a GPU's are read now and then
                    write_curves(folder, losses | {name: progress.losses}, points)
                yield progress

    def learn(name: str, seed: int, loss, guider=None) -> PairedUNet:
        begin = time.monotonic()
        settings = dict(steps=config.steps, batch=config.batch, rate=config.rate)
        training = Training(**settings, mirror=config.mirror, seed=seed)
        schedule = config.noise_schedule
        how = dict(guider=guider, speed=speed, schedule=schedule)
        net = network(config, seed)
        if start is not None:
            net.load_state_dict(start.networks[name].state_dict())
        net.to(device)
        steps = fit(net, loss, learnt, training, folder / f"{name}.ckpt", **how)
        best = folder / f"{name}.best"
        measured = ""
        if held_out and first:
            others = HeldOut(held_out, pairs, loss, best, schedule, guider)
            points[name] = others.losses
            every = steps_between(config.steps, config.batch)
            steps = others.watch(steps, every, -(-config.batch // speed.accumulate))
        last = finish(drawn(steps, name), f"training {name}")
        losses[name] = last.losses
        if held_out and first:
            measured = f"; {others.summary(last.step)}"
        seconds = time.monotonic() - begin
        end = f"{training.steps} steps, loss {last.recent:.4f}{measured}, {seconds:.0f} s"
        print(f"{name}: {end}{told(last.speed, last.seconds)}")
        if held_out and config.keep == "best":
            wait_for_all()  # until it is written
            last.average.load_state_dict(load_checkpoint(best, {"weights"})["weights"])
        return last.average

    # two seeds: the networks must not share their noise, nor repeat that of an earlier training
    seed = 2 * config.seed + (int(config.start[:7] or "0", 16) << 32)
    guider = learn("model_x", seed, model_x_loss)
    model_y = learn("model_y", seed + 1, loss_of(rule), guider)
    if first:
        write_curves(folder, losses, points)
        nets = {"model_x": guider, "model_y": model_y}
        Start(folder, config, nets, version, seen, unseen, content).save()
    wait_for_all()
    return assembled(load_start(folder), rule, device)  # the rule's file may be another by now


def load_pair(
    folder: Path, device: torch.device | str = "cpu", rule: str | None = None
) -> tuple[PairModel, Config]:
    """The pair model of a finished run, and its configuration.

    rule: sample by this one instead of the run's, if model_y is trained alike: `sign` for a run of
    `clean`. Raises FileNotFoundError or ValueError that says what to do.
    """
    start = load_start(folder)
    config = start.config
    chosen = find_rule(rule or config.rule)()
    if not rule and version_of(config.rule) != start.rule_version:
        raise ValueError(
            f"{config.rule} has changed since {folder} was trained with it; restore the file, "
            f"train again, or sample with the new: --rule {config.rule}"
        )
    if rule and trained_as(name_of(rule)) != trained_as(name_of(config.rule)):
        raise ValueError(
            f"{folder} was trained with the rule {config.rule}; {rule} needs its own training: "
            f"repeat its train command with --rule {rule} and another --out"
        )
    return assembled(start, chosen, device), config


def assembled(start: "Start", rule: GuideRule, device: torch.device | str) -> PairModel:
    """The networks of a finished run, ready to sample with `rule`."""
    keep_freed_memory()  # this and channels last: samples faster
    nets = list(start.networks.values())
    for net in nets:
        net.to(device, memory_format=torch.channels_last)
        net.eval().requires_grad_(False)
    return PairModel(*nets, start.config.noise_schedule, rule)


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
    """RUN/pair.pt of a finished run, which sampling loads, and another training may go on from.

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
        """The configuration of a training that goes on: this run's, but for `options`.

        Raises ValueError if they do not fit the networks.
        """
        before = self.config
        config = replace(before, start=weights_of(self.folder), **options)
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
        config = Config(**saved["config"])
        nets = {name: network(config, config.seed) for name in ("model_x", "model_y")}
        for name, net in nets.items():
            net.load_state_dict(saved[name])
    except (RuntimeError, TypeError, KeyError) as error:
        message = f"{path} was written by another version of minipig; train again"
        raise ValueError(message) from error
    seen, unseen = (set(saved.get(name, ())) for name in ("seen", "unseen"))  # none in older runs
    rule_version, content = (saved.get(name, "") for name in ("rule_version", "content"))
    return Start(folder, config, nets, rule_version, seen, unseen, content)


def quoted(path: Path) -> str:
    """A path as in a command line of any system."""
    return f'"{path}"' if " " in str(path) else str(path)


def missing(folder: Path) -> str:
    """Why `folder` has no pair.pt, and what to do."""
    if (folder / "pair").is_dir():
        return f"{folder} is a demo's folder; give its run, {folder / 'pair'}"
    if not folder.exists():
        return f"{folder} does not exist; train it first: minipig train --out {quoted(folder)}"
    if not (folder / "config.json").exists():
        return f"{folder} is not a run; give the folder of a training"
    return f"{folder} has not finished training, or is not a run; repeat its train command"
