"""Where the methods of a protocol learn and draw: each network once a fold, each sample once, whatever asks for it.

Records (units.py) go to RESULTS/fold_K.json. Weights, checkpoints and samples go to WORK, and may be thrown away: what a
record still needs of them is made again.
"""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from ..files import held, load_checkpoint, save_checkpoint
from ..guider import NoisyPair
from ..pairs import Pairs
from ..schedule import Schedule
from ..seeds import SampleNoise, generator, seeded_network
from ..train import Training, finish, fit
from ..unet import PRESETS, PairedUNet
from .classical import augment
from .methods import METHODS, NETWORKS, Method, Network
from .protocol import Fold, Protocol, folds_of
from .start import Start
from .units import Records, digest

BATCH = {"cpu": 64, "cuda": 512}  # samples drawn at a time, each from noise of its own


class Workshop:
    """A protocol at work on one device, with the methods and networks that it knows by name.

    Raises ValueError for a size that the networks do not take, or damaged records.
    """

    def __init__(
        self,
        protocol: Protocol,
        results: Path,
        work: Path,
        device: torch.device,
        methods: dict[str, Method] = METHODS,
        networks: dict[str, Network] = NETWORKS,
    ):
        PairedUNet(**PRESETS[protocol.preset]).check_size(*protocol.size)  # before anything is read or written
        self.protocol, self.results, self.work, self.device = protocol, results, work, device
        self.methods, self.networks = methods, networks
        self.folds = folds_of(protocol)
        self.records = [Records(results / f"fold_{fold.number}.json") for fold in self.folds]

    def data_key(self, fold: Fold) -> str:
        """The hash of what the fold's methods learn from and are tested on."""
        p = self.protocol
        origin = {"phantoms": p.pairs} if p.phantom else {"train": fold.train.fingerprint(), "test": fold.test.fingerprint()}
        return digest(origin | dict(size=p.size, folds=p.folds, seed=p.seed, fold=fold.number))

    def network_key(self, fold: Fold, name: str) -> str:
        """The hash of what decides a network: data, preset, training, and the networks that it builds on."""
        p = self.protocol
        own = dict(network=name, preset=p.preset, steps=p.steps, batch=p.batch, rate=p.rate, data=self.data_key(fold))
        own |= {"deformed": p.deformed} if p.deformed else {}
        return digest(own | {"after": [self.network_key(fold, parent) for parent in self.networks[name].after]})

    def samples_key(self, fold: Fold, source: str) -> str:
        """The hash of what decides a method's samples: its networks, and how they walk. Of other sources: their name."""
        if source not in self.methods:
            return source
        method = self.methods[source]
        nets = [self.network_key(fold, name) for name in method.networks]
        return digest(dict(method=source, networks=nets, solver=method.solver, steps=method.steps, eta=method.eta))

    def network(self, fold: Fold, name: str) -> nn.Module:
        """The averaged weights of a trained network in this fold, loaded or learnt from the fold's training pairs alone."""
        key, kind = self.network_key(fold, name), self.networks[name]
        checkpoint, seed = self.checkpoint(fold, name, key), int(key[:7], 16)
        path = checkpoint.with_suffix(".pt")
        parents = [self.network(fold, parent) for parent in kind.after]
        net = seeded_network(lambda: kind.build(PRESETS[self.protocol.preset], *parents), seed).to(self.device)
        records = self.records[fold.number]
        if path.exists():
            saved = load_checkpoint(path, {"weights", "record"})
            net.load_state_dict(saved["weights"])
            if not records.find(f"network/{name}", key):  # WORK may serve several RESULTS
                records.keep(f"network/{name}", saved["record"])
        else:
            learn = partial(self.learn, fold, name, net, parents, seed, checkpoint)
            record = records.make(f"network/{name}", key, learn, again=True)
            save_checkpoint(path, {"weights": net.state_dict(), "record": record})
            checkpoint.unlink()
        return net.to(memory_format=torch.channels_last).eval().requires_grad_(False)

    def checkpoint(self, fold: Fold, name: str, key: str) -> Path:
        """Where a unit's training is saved until its result is."""
        return self.work / f"fold_{fold.number}" / f"{name.replace('/', '-')}-{key}.ckpt"

    def learn(self, fold: Fold, name: str, net: nn.Module, parents: list[nn.Module], seed: int, checkpoint: Path) -> dict:
        """Train `net`, whose weights end as their average, and return what it cost; resumes `checkpoint`."""
        p, kind = self.protocol, self.networks[name]
        training = Training(p.steps, p.batch, p.rate, seed=seed)
        known = fold.train + augment(fold.train, p.deformed, p.seed, p.mirror_axis) if p.deformed else fold.train
        pairs = kind.data(known, *parents)
        steps = fit(net, kind.loss, pairs, training, checkpoint, guider=parents[0] if kind.guided else None)
        last = finish(steps, training, f"fold {fold.number}: training {name}")
        net.load_state_dict(last.average.state_dict())
        kind.finish(net, known)
        learnt = sum(w.numel() for w in net.parameters() if w.requires_grad)
        return dict(loss=last.recent, parameters=learnt, forward_flops=forward_flops(net, kind, pairs, parents))

    def samples(self, fold: Fold, source: str, n: int) -> Pairs:
        """The first n samples of a method in this fold, drawn where they are not there yet; no masks: all are empty."""
        path = self.samples_path(fold, source)
        masks, images = self.drawn(path)
        if len(images) < n:
            with held(path):
                masks, images = self.draw(fold, source, path, n)
        names = [f"{source}_{i:05d}.png" for i in range(n)]
        return Pairs(torch.stack(masks[:n]), torch.stack(images[:n]).float() / 127.5 - 1, names, list(names))

    def samples_path(self, fold: Fold, source: str) -> Path:
        """Where a method's samples are saved."""
        return self.work / f"fold_{fold.number}" / f"{source}-{self.samples_key(fold, source)}.pt"

    def drawn(self, path: Path) -> tuple[list[Tensor], list[Tensor]]:
        """What has been saved of a method's samples: masks (1, H, W), bool, and slices, uint8."""
        saved = load_checkpoint(path, {"masks", "images"}) if path.exists() else {"masks": (), "images": ()}
        return list(saved["masks"]), list(saved["images"])

    def draw(self, fold: Fold, source: str, path: Path, n: int) -> tuple[list[Tensor], list[Tensor]]:
        """Add to what has been saved until there are n samples, a batch at a time; all of them."""
        method, (masks, images) = self.methods[source], self.drawn(path)
        nets, there = [self.network(fold, name) for name in method.networks], len(images)

        def work() -> dict:
            known, seed = fold.train[:][0], self.protocol.folds * self.protocol.seed + fold.number
            label = f"fold {fold.number}: drawing {source}"
            with tqdm(total=n, initial=there, desc=label, disable=None, leave=False) as bar:
                while len(images) < n:
                    numbers = range(len(images), min(len(images) + BATCH[self.device.type], n))
                    given = known[[i % len(known) for i in numbers]].to(self.device)
                    noise = SampleNoise(seed, numbers, self.device)
                    start = Start(noise, self.protocol.size, given, method.solver, method.steps, method.eta)
                    x, y = method.draw(*nets, start)
                    masks.extend((torch.zeros_like(y) if x is None else x).cpu() > 0)
                    images.extend(((y + 1) * 127.5).round().clamp(0, 255).byte().cpu())
                    save_checkpoint(path, {"masks": torch.stack(masks), "images": torch.stack(images)})
                    bar.update(len(numbers))
            return {"drawn": n - there}

        self.records[fold.number].make(f"samples/{source}", self.samples_key(fold, source), work, again=True)
        return masks, images


@torch.no_grad()
def forward_flops(net: nn.Module, kind: Network, pairs: Pairs, parents: list[nn.Module]) -> int:
    """FLOPs of the loss of one pair, forwards: those of the network, and of a frozen guider that it asks."""
    device, guider = next(net.parameters()).device, parents[0] if kind.guided else None
    noisy = NoisyPair.draw(*(z0.to(device) for z0 in pairs[:1]), Schedule(), generator("flops"), guider)
    with FlopCounterMode(display=False) as counter:
        kind.loss(net, noisy)
    return counter.get_total_flops()
