"""Checks of counts and seeds; the seeds of the held-out phantoms are listed here."""

from typing import Iterable

# Only the judge, the ceiling and generators that learn others' phantoms train on these, each on
# those of its own seeds.
HELD_OUT = {
    "demo-fresh": range(1001, 1002),  # the ceiling: as many real pairs as synthetic ones
    "demo-test": range(1002, 1003),
    "demo-judge": range(1003, 1004),
    "solvers": range(3001, 3101),  # one for each seed
    "table2-fresh": range(5001, 5101),  # one for each fold
    "table2-test": range(5101, 5102),
    "table1-floor": range(5201, 5301),  # one for each fold
    "table1-unknown": range(5301, 5401),  # one for each fold
    "table1-reference": range(5401, 5402),
    "table1-judge": range(5402, 5502),  # one for each judge
    "generators": range(5601, 5701),  # others than the segmenters', one for each seed
    "map-test": range(5701, 5801),  # one for each seed
    "map-fresh": range(5801, 5901),  # one for each seed
    "completions": range(6001, 6002),
    "novelty": range(7001, 7002),
}


def held_out(use: str, number: int = 0) -> int:
    """Seed of the held-out phantoms for `use`; `number` is that of the fold, seed or judge.

    Raises ValueError if `number` is out of range.
    """
    seeds = HELD_OUT[use]
    if not 0 <= number < len(seeds):
        last = len(seeds) - 1
        raise ValueError(f"{use}: the number must be from 0 to {last}, not {number}")
    return seeds[number]


def check_seed(seed: int) -> None:
    """Raise ValueError if `seed` draws held-out phantoms, which must not be trained on."""
    for use, seeds in HELD_OUT.items():
        if seed in seeds:
            raise ValueError(f"seed {seed} is kept for testing ({use}); give another --seed")


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Raise ValueError if `value` is none of the known ones."""
    if value not in known:
        raise ValueError(f"unknown {name} {value}; choose one of {', '.join(known)}")


def check_counts(low: int, **counts: int) -> None:
    """Raise ValueError that names the first of `counts` below `low`, or too large for a seed."""
    for name, value in counts.items():
        if value < low:
            raise ValueError(f"{name} must be at least {low}, not {value}")
        if value >= 2**31:
            raise ValueError(f"{name} must be below {2**31}, not {value}")
