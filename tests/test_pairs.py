"""Pairs in memory: saved and read back, split by patient and by identical image."""

import os
from collections import Counter

import numpy as np
import pytest
import torch

from minipig.data.folder import PairFolder
from minipig.data.pairs import Pairs, deal, groups, split


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


def test_names_that_are_not_utf_8_are_hashed_and_saved_as_they_are(tmp_path):
    pairs = made("ab")
    pairs.names[0] = os.fsdecode(b"L\xe9sion.png")
    assert pairs.fingerprint() != made("ab").fingerprint()
    pairs.save(tmp_path)
    pairs.save(tmp_path)
    rows = b"L\xe9sion.png,a\n1.png,b\n"
    assert (tmp_path / "manifest.csv").read_bytes() == b"name,patient\n" + 2 * rows


@pytest.mark.parametrize(
    "before", ["name,patient\nz.png,z", '\ufeff"name","patient",view\nz.png,z,CC\n']
)
def test_pairs_are_added_to_the_lines_of_a_manifest(tmp_path, before):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(before, encoding="utf-8")
    made("ab").save(tmp_path)
    assert manifest.read_text(encoding="utf-8") == f"{before.strip()}\n0.png,a\n1.png,b\n"


@pytest.mark.parametrize("header", ["patient,name", "name;patient", ""])
def test_a_manifest_of_other_columns_is_refused_and_kept(tmp_path, header):
    (tmp_path / "manifest.csv").write_text(header)
    told = f"manifest.csv has the columns {header or 'none'}, and must begin with name,patient; cor"
    with pytest.raises(ValueError, match=told):
        made("ab").save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]


def made(patients, images=None):
    n = len(patients)
    if images is None:
        images = torch.arange(n).float()[:, None, None, None].expand(n, 1, 2, 2)
    masks = torch.zeros(n, 1, 2, 2, dtype=torch.bool)
    return Pairs(masks, images, [f"{i}.png" for i in range(n)], list(patients))


@pytest.mark.parametrize(
    "sizes",
    [
        [90, 10],
        [80, 10, 10],
        [60, 20, 10, 10],
        [70] + [3] * 10,
        [40, 40, 5, 5, 5, 5],
        [30, 30, 30, 10],
    ],
)
def test_split_keeps_the_fractions_where_unequal_patients_allow_it(sizes):
    pairs = made([f"p{i}" for i, size in enumerate(sizes) for _ in range(size)])
    for seed in range(20):
        known, held_out = split(pairs, (0.9, 0.1), seed)
        assert 0.07 <= len(held_out) / len(pairs) <= 0.13
        assert not known.notes and not held_out.notes


def test_split_tells_of_patients_that_allow_no_such_fractions():
    pairs = made(["a"] * 60 + ["b"] * 40)
    for part in split(pairs, (0.9, 0.1)):
        told = "too few patients, or of unequal size: the parts hold 60% and 40% of the pairs, "
        told += "not 90% and 10%"
        assert part.notes == [told]


def test_a_small_part_that_is_far_from_what_was_asked_is_told():
    for part in split(made(["a"] * 85 + ["b"] * 15), (0.9, 0.1)):
        (note,) = part.notes
        assert note.endswith("the parts hold 85% and 15% of the pairs, not 90% and 10%")


def test_patients_of_equal_size_are_dealt_but_once():
    for patients in range(2, 40):
        pairs = made([f"p{i // 3}" for i in range(3 * patients)])
        order = sorted(set(groups(pairs)))
        np.random.default_rng(0).shuffle(order)
        _, last = deal(order, Counter(groups(pairs)), [2.7 * patients, 0.3 * patients])
        held_out = split(pairs, (0.9, 0.1))[1]
        assert held_out.names == [n for n, g in zip(pairs.names, groups(pairs)) if g in last]


def test_split_keeps_the_fractions():
    pairs = made([f"p{i // 3}" for i in range(90)])
    parts = split(pairs, (0.6, 0.3, 0.1), seed=1)
    assert [len(part) for part in parts] == [54, 27, 9]
    assert sorted(sum((part.names for part in parts), [])) == sorted(pairs.names)
    assert not set(parts[0].patients) & set(parts[1].patients)
    assert [p.names for p in parts] == [p.names for p in split(pairs, (0.6, 0.3, 0.1), seed=1)]
    assert parts[0].names != split(pairs, (0.6, 0.3, 0.1), seed=2)[0].names


def test_identical_images_tie_patients_together():
    images = torch.tensor([0.0, 1.0, 1.0, 2.0])[:, None, None, None] * torch.ones(4, 1, 2, 2)
    blank = groups(made(["p", "p", "q", "r"], images.clone()))
    assert blank[0] == blank[1] and len({*blank[1:]}) == 3  # black slices say nothing
    images[:, :, 0, 0] = -1
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
        r"cannot split 3 pairs of 1 patient\(s\) into 2 parts: .* equal images count as one "
        r"patient's; add patients"
    )
    with pytest.raises(ValueError, match=problem):
        split(made("aaa"), (0.9, 0.1))
