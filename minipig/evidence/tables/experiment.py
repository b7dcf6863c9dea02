"""An experiment: train each network and draw each sample once in a fold, and cache both.

Records (records.py) go to RESULTS/fold_K.json. Weights, checkpoints and samples go to WORK, which
may be deleted: what is needed later is made again.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from minipig.data.checks import held_out
from minipig.data.classical import with_deformed
from minipig.data.files import claim_folder, load_checkpoint, locked, save_checkpoint
from minipig.data.pairs import Pairs
from minipig.data.phantoms import phantoms
from minipig.evidence.methods.batch import Batch
from minipig.evidence.methods.registry import METHODS, NETWORKS, Method, Network
from minipig.evidence.tables.protocol import OLDER_PROTOCOL, Fold, Protocol, folds_of
from minipig.evidence.tables.records import Records, digest
from minipig.guider import NoisyPair
from minipig.seeds import SampleNoise, generator, seeded_network
from minipig.training.loop import Training, finish, fit
from minipig.unet import PRESETS, PairedUNet

BATCH = {"cpu": 64, "cuda": 512}  # samples drawn together; each has its own noise


@dataclass(eq=False)
class Experiment:
    """A protocol on one device, with methods and networks by name.

    Raises ValueError for a size that does not fit the networks, or for damaged records.
    """

    protocol: Protocol
    results: Path
    work: Path
    device: torch.device
    methods: dict[str, Method] = field(default_factory=lambda: METHODS)
    networks: dict[str, Network] = field(default_factory=lambda: NETWORKS)
    judge: Path | None = None  # the judge's file; default: judge.pt in `results`

    def __post_init__(self):
        p = self.protocol
        PairedUNet(**PRESETS[p.preset]).check_size(*p.size)  # raises before any data are read
        self.folds = folds_of(p)
        self.records = [Records(self.results / f"fold_{k}.json") for k in range(p.folds)]

    def claim(self, **more) -> None:
        """Write the protocol, and settings besides, to RESULTS/config.json, or compare them.

        Raises ValueError if RESULTS belongs to another configuration, or to other pairs.
        """
        first = self.folds[0]
        content = "" if self.protocol.phantom else (first.train + first.test).fingerprint()
        configuration = self.protocol.written() | more
        claim_folder(self.results, configuration, defaults=OLDER_PROTOCOL, content=content)

    def data_key(self, fold: Fold) -> str:
        """The hash of the fold's pairs."""
        p = self.protocol
        key = dict(size=p.size, folds=p.folds, seed=p.seed, fold=fold.number)
        if p.phantom:
            return digest(key | {"phantoms": p.pairs})
        return digest(key | {"train": fold.train.fingerprint(), "test": fold.test.fingerprint()})

    def network_key(self, fold: Fold, name: str) -> str:
        """The hash of what decides a network: data, preset, training, and its parents."""
        p = self.protocol
        parents = [self.network_key(fold, parent) for parent in self.networks[name].parents]
        key = dict(network=name, preset=p.preset, batch=p.batch, rate=p.rate)
        key |= dict(steps=self.networks[name].times * p.steps)
        key |= dict(data=self.data_key(fold), after=parents)
        for setting in ("deformed", "others", "schedule"):  # records of the defaults lack them
            if (value := getattr(p, setting)) != getattr(Protocol, setting):
                key[setting] = value
        return digest(key)

    def samples_key(self, fold: Fold, source: str) -> str:
        """The hash of a method's networks and sampling settings; the name of any other source."""
        if source not in self.methods:
            return source
        method = self.methods[source]
        networks = [self.network_key(fold, name) for name in method.networks]
        how = dict(solver=method.solver, steps=method.steps, eta=method.eta)
        return digest(dict(method=source, networks=networks) | how)

    def network(self, fold: Fold, name: str) -> nn.Module:
        """A frozen network, loaded from WORK, or trained on what `known` gives."""
        key = self.network_key(fold, name)
        kind = self.networks[name]
        parents = [self.network(fold, parent) for parent in kind.parents]
        settings = PRESETS[self.protocol.preset] | {"schedule": self.protocol.noise_schedule}
        seed = int(key[:7], 16)
        net = seeded_network(lambda: kind.build(settings, *parents), seed).to(self.device)
        checkpoint = self.checkpoint_path(fold, name, key)
        path = checkpoint.with_suffix(".pt")
        records = self.records[fold.number]
        if path.exists():
            saved = load_checkpoint(path, {"weights", "record"})
            net.load_state_dict(saved["weights"])
            if not records.find(f"network/{name}", key):  # several RESULTS may share one WORK
                records.save(f"network/{name}", saved["record"])
        else:
            with records.making(f"network/{name}", key) as record:
                record |= self.train(fold, name, net, parents, seed, checkpoint)
            save_checkpoint(path, {"weights": net.state_dict(), "record": record})
            checkpoint.unlink(missing_ok=True)  # another process may have trained the same
        return net.to(memory_format=torch.channels_last).eval().requires_grad_(False)

    def known(self, fold: Fold) -> Pairs:
        """All that the fold's generators learn from: its pairs, others, and deformed ones."""
        p = self.protocol
        known = fold.train
        if p.others:
            known = known + phantoms(p.others, p.size, held_out("generators", p.seed))
        return with_deformed(known, p.deformed, p.seed, p.mirror_axis)

    def checkpoint_path(self, fold: Fold, name: str, key: str) -> Path:
        """The file of an unfinished training, network or segmenter."""
        return self.work / f"fold_{fold.number}" / f"{name.replace('/', '-')}-{key}.ckpt"

    def train(
        self, fold: Fold, name: str, net: nn.Module, parents: list, seed: int, checkpoint: Path
    ) -> dict:
        """Train `net`, which ends with its averaged weights; return loss, parameters and FLOPs."""
        p = self.protocol
        kind = self.networks[name]
        known = self.known(fold)
        pairs = kind.data(known, *parents)
        guider = parents[0] if kind.guided else None
        training = Training(kind.times * p.steps, p.batch, p.rate, seed=seed)
        steps = fit(
            net, kind.loss, pairs, training, checkpoint, guider=guider, schedule=p.noise_schedule
        )
        last = finish(steps, f"fold {fold.number}: training {name}")
        net.load_state_dict(last.average.state_dict())
        kind.finalise(net, known)
        parameters = sum(w.numel() for w in net.parameters() if w.requires_grad)
        # the FLOPs of the loss of one pair, forward, including a guider that it calls
        x0, y0 = (z0.to(self.device) for z0 in pairs[:1])
        pair = NoisyPair.draw(x0, y0, p.noise_schedule, generator("flops"), guider)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            kind.loss(net, pair)
        flops = counter.get_total_flops()
        return dict(loss=last.recent, parameters=parameters, forward_flops=flops)

    def samples(self, fold: Fold, source: str, n: int) -> Pairs:
        """The first n samples of a method, loaded or drawn; empty masks if it makes no masks."""
        path = self.samples_path(fold, source)
        if len(saved_samples(path)[1]) < n:
            with locked(path):
                self.draw(fold, source, path, n)
        masks, images = saved_samples(path)
        names = [f"{source}_{i:05d}.png" for i in range(n)]
        slices = torch.stack(images[:n]).float() / 127.5 - 1
        return Pairs(torch.stack(masks[:n]), slices, names, list(names))

    def samples_path(self, fold: Fold, source: str) -> Path:
        """The file of a method's samples."""
        return self.work / f"fold_{fold.number}" / f"{source}-{self.samples_key(fold, source)}.pt"

    def draw(self, fold: Fold, source: str, path: Path, n: int) -> None:
        """Draw samples, and save each batch, until `path` has n of them."""
        p = self.protocol
        method = self.methods[source]
        masks, images = saved_samples(path)
        before = len(images)
        if before >= n:  # another process has drawn them meanwhile
            return
        networks = [self.network(fold, name) for name in method.networks]
        x0 = (self.known(fold) if method.bent_masks else fold.train)[:][0]
        label = f"fold {fold.number}: drawing {source}"
        bar = tqdm(total=n, initial=before, desc=label, disable=None, leave=False)
        unit = (f"samples/{source}", self.samples_key(fold, source))
        with bar, self.records[fold.number].making(*unit) as record:
            while len(images) < n:
                numbers = range(len(images), min(len(images) + BATCH[self.device.type], n))
                noise = SampleNoise(p.folds * p.seed + fold.number, numbers, self.device)
                given = x0[[i % len(x0) for i in numbers]].to(self.device)
                how = (method.solver, method.steps, method.eta)
                x, y = method.draw(*networks, Batch(noise, p.size, given, p.noise_schedule, *how))
                masks.extend((torch.zeros_like(y) if x is None else x).cpu() > 0)
                images.extend(((y + 1) * 127.5).round().clamp(0, 255).byte().cpu())
                saved = {"masks": torch.stack(masks), "images": torch.stack(images)}
                save_checkpoint(path, saved)
                bar.update(len(numbers))
            record["drawn"] = n - before


def saved_samples(path: Path) -> tuple[list[Tensor], list[Tensor]]:
    """The saved masks (1, H, W), bool, and slices, uint8; empty lists without a file."""
    if not path.exists():
        return [], []
    saved = load_checkpoint(path, {"masks", "images"})
    return list(saved["masks"]), list(saved["images"])
