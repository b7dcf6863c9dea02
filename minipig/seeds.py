"""Randomness as a function of a key: no global state, so nothing to restore on resuming.

Training draws the noise of step k from the key ("step", seed, k), sampling that of sample i from
("sample", seed, i): a resumed training repeats what an undisturbed one draws, and a sample does not
depend on its batch. Everything is drawn on the CPU, so that a GPU starts from the same noise.
"""

import zlib

import numpy as np
import torch


def generator(purpose: str, *key: int) -> torch.Generator:
    """A CPU generator set by `purpose` and `key`, whole numbers of 0 or more."""
    entropy = np.random.SeedSequence([zlib.crc32(purpose.encode()), len(key), *key])
    high, low = entropy.generate_state(2, np.uint32)
    return torch.Generator().manual_seed((int(high) << 31) | (int(low) >> 1))  # 63 bits


class SampleNoise:
    """Standard normal noise; its row i depends on `seed` and on number i of `samples` alone."""

    def __init__(self, seed: int, samples: range, device: torch.device | str = "cpu"):
        self.generators = [generator("sample", seed, i) for i in samples]
        self.device = device

    def __call__(self, shape: tuple[int, ...]) -> torch.Tensor:
        """The next noise of every sample: (len(samples), *shape)."""
        rows = [torch.randn(shape, generator=row) for row in self.generators]
        return torch.stack(rows).to(self.device)


def seeded_network(build, seed: int) -> torch.nn.Module:
    """build() with initial weights from `seed`; torch's global generator is unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone
        return build()
