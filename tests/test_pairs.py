"""Pairs in memory: saved and read back, split by patient and by identical image."""

import numpy as np
import pytest
import torch

from minipig.data.folder import PairFolder
from minipig.data.pairs import Pairs, groups, split


def test_saved_pairs_are_read_back(tmp_path):
    draw = np.random.default_rng(0)
    images = torch.from_numpy(draw.uniform(-1, 1, (3, 1, 8, 8)).astype(np.float32))
    pairs = Pairs(images > 0, images, ["b.png", "a.png", "c.png"], ["p", "p", "q"])
    pairs.subset([0, 1]).save(tmp_path)
    pairs.subset([2]).save(tmp_path)
    back = PairFolder(tmp_path)
    assert back.names == ["a.png", "b.png", "c.png"] and back.patients == ["p", "p", "q"]
    assert (back.images - images[[1, 0, 2]]).abs().max() <= 0.5 / 127.5 + 1e-6
    assert torch.equal(back.masks, (images > 0)[[1, 0, 2]])


def made(patients, images=None):
    n = len(patients)
    if images is None:
        images = torch.arange(n).float()[:, None, None, None].expand(n, 1, 2, 2)
    masks = torch.zeros(n, 1, 2, 2, dtype=torch.bool)
    return Pairs(masks, images, [f"{i}.png" for i in range(n)], list(patients))


def test_split_keeps_patients_in_one_part_and_the_fractions():
    pairs = made([f"p{i // 3}" for i in range(90)])
    parts = split(pairs, (0.6, 0.3, 0.1), seed=1)
    assert [len(part) for part in parts] == [54, 27, 9]
    assert sorted(sum((part.names for part in parts), [])) == sorted(pairs.names)
    assert not set(parts[0].patients) & set(parts[1].patients)
    assert [p.names for p in parts] == [p.names for p in split(pairs, (0.6, 0.3, 0.1), seed=1)]
    assert parts[0].names != split(pairs, (0.6, 0.3, 0.1), seed=2)[0].names


def test_identical_images_tie_patients_together():
    images = torch.tensor([0.0, 1.0, 1.0, 2.0])[:, None, None, None].expand(4, 1, 2, 2)
    g = groups(made(["p", "p", "q", "r"], images))
    assert g[0] == g[1] == g[2] != g[3]
    for seed in range(8):
        a, b = split(made(["p", "p", "q", "r"], images), (0.5, 0.5), seed)
        assert {len(a), len(b)} == {3, 1}


def test_no_part_of_a_split_is_empty():
    for seed in range(5):
        assert all(len(part) for part in split(made("aaaaaaab"), (0.99, 0.01), seed))


def test_one_patient_cannot_be_split():
    problem = (
        r"cannot split 3 pairs of 1 patient\(s\) into 2 parts: .*; add patients, .*--holdout 0"
    )
    with pytest.raises(ValueError, match=problem):
        split(made("aaa"), (0.9, 0.1))
