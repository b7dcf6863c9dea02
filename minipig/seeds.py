"""Randomness as a function of a key: nothing is hidden in a global state, so nothing has to be restored.

Training draws the noise of step k from the key ("step", seed, k); sampling draws that of sample i from ("sample", seed, i).
A resumed training therefore repeats what an undisturbed one would have drawn, and a sample does not depend on the batch
that it happens to be computed in. Everything is drawn on the CPU, so that a GPU starts from the same noise.
"""

import zlib

import numpy as np
import torch


def generator(purpose: str, *key: int) -> torch.Generator:
    """A CPU generator whose stream is fixed by `purpose` and the whole numbers of `key`, all of them 0 or more."""
    state = np.random.SeedSequence([zlib.crc32(purpose.encode()), len(key), *key]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)  # 63 bits: torch's seeds have a sign


class SampleNoise:
    """Standard normal noise of which row i depends on `seed` and on the sample's number alone.

    Each call moves every row's own stream on. `samples` holds the numbers of the samples in this batch.
    """

    def __init__(self, seed: int, samples: range, device: torch.device | str = "cpu"):
        self.generators = [generator("sample", seed, i) for i in samples]
        self.device = device

    def __call__(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Noise of shape (len(samples), *shape)."""
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators]).to(self.device)


def seeded_network(build, seed: int) -> torch.nn.Module:
    """build() with the initial weights that `seed` fixes; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone
        return build()
