"""Randomness is a function of its key."""

import torch

from minipig.seeds import SampleNoise, generator, seeded_network


def test_generators_depend_on_purpose_and_key():
    keys = (("a", 0), ("b", 0), ("a", 1), ("a", 0, 1), ("a", 1, 0))
    draws = [torch.rand(1, generator=generator(*key)).item() for key in keys]
    assert len(set(draws)) == 5
    assert draws[0] == torch.rand(1, generator=generator("a", 0)).item()


def test_sample_noise_does_not_depend_on_the_batch():
    whole = SampleNoise(3, range(6))
    part = SampleNoise(3, range(4, 6))
    for _ in range(2):
        assert torch.equal(whole((1, 4, 4))[4:], part((1, 4, 4)))


def test_seeded_network_leaves_the_global_generators_alone(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = torch.get_rng_state()
    a, b = (seeded_network(lambda: torch.nn.Linear(3, 3), 5) for _ in range(2))
    assert torch.equal(a.weight, b.weight)
    assert torch.equal(before, torch.get_rng_state()) and not seeded
    assert not torch.equal(a.weight, seeded_network(lambda: torch.nn.Linear(3, 3), 6).weight)
