"""Worlds of a few states: Proposition 1 and its proof, Eq. (12), as arithmetic on tables."""

import torch
from torch import Tensor

from minipig.seeds import generator


class FiniteWorld:
    """The joint law of discrete variables: the product of a directed graph's conditional tables.

    tables: for each key, such as "x2 | x1 y1", a float64 table with one axis for each name, in the
    key's order. Raises ValueError unless it sums to 1 over the names before the bar.
    """

    def __init__(self, tables: dict[str, Tensor]):
        self.names = list(dict.fromkeys(name for key in tables for name in _names(key)))
        factors = []
        for key, table in tables.items():
            total = table.sum(_before_the_bar(key))
            if table.min() < 0 or (total - 1).abs().max() > 1e-9:
                found = f"sums {total.min():.3g} to {total.max():.3g}"
                found += f", smallest entry {table.min():.3g}"
                over = key.partition("|")[0].strip()
                raise ValueError(f"table {key!r} must be >= 0 and sum to 1 over {over}: {found}")
            factors += [table, [self.names.index(name) for name in _names(key)]]
        self.table = torch.einsum(*factors, list(range(len(self.names))))

    def p(self, query: str) -> Tensor:
        """P(left | right) for a query such as "x1 y1 | x2 y2": sum the joint table, and divide.

        Every variable keeps its axis in every answer, of length 1 where it is summed out, so that
        answers multiply as in equations. NaN where the condition has probability 0. Raises
        ValueError for a variable that this world does not have.
        """
        left, _, right = query.partition("|")
        if unknown := set(_names(query)) - set(self.names):
            has = f"this world has {' '.join(self.names)}, and no {' '.join(sorted(unknown))}"
            raise ValueError(f"{query!r} cannot be answered: {has}")
        return self._marginal(_names(left) + _names(right)) / self._marginal(_names(right))

    def _marginal(self, kept: list[str]) -> Tensor:
        summed = [axis for axis, name in enumerate(self.names) if name not in kept]
        return self.table.sum(summed, keepdim=True) if summed else self.table


def two_chains(T: int) -> list[str]:
    """The keys of Eq. (8)'s tables: p(x0, y0), and two independent chains of T steps."""
    return ["x0 y0"] + [f"{z}{t} | {z}{t - 1}" for t in range(1, T + 1) for z in "xy"]


def random_tables(keys: list[str], states: dict[str, int], seed: int) -> dict[str, Tensor]:
    """A random positive table for each key; states: number of values, by a variable's letter."""
    tables = {}
    draw = generator("tables", seed)
    for key in keys:
        shape = [states[name[0]] for name in _names(key)]
        table = 0.01 + torch.rand(shape, generator=draw, dtype=torch.float64) ** 3
        tables[key] = table / table.sum(_before_the_bar(key), keepdim=True)
    return tables


def _names(key: str) -> list[str]:
    return key.replace("|", " ").split()


def _before_the_bar(key: str) -> list[int]:
    return list(range(len(key.partition("|")[0].split())))
