"""A world of a few states: every line of Proposition 1's proof, Eq. (12), is arithmetic on tables that sum to 1."""

import torch
from torch import Tensor

from .seeds import generator


class FiniteWorld:
    """The joint law of a few discrete variables: the product of the conditional tables of a directed graph.

    tables: for each key, such as "x2 | x1 y1", a float64 table with an axis for each name, in the key's order, that sums to
    1 over the names before the bar. Raises ValueError for one that does not.
    """

    def __init__(self, tables: dict[str, Tensor]):
        for key, table in tables.items():
            total = table.sum(_before_the_bar(key))
            if table.min() < 0 or (total - 1).abs().max() > 1e-9:
                raise ValueError(f"the table {key!r} is no conditional probability: its sums run from {total.min():.3g} to "
                                 f"{total.max():.3g}, its smallest entry is {table.min():.3g}")  # fmt: skip
        self.names = list(dict.fromkeys(name for key in tables for name in _names(key)))
        factors = [part for key in tables for part in (tables[key], [self.names.index(name) for name in _names(key)])]
        self.table = torch.einsum(*factors, list(range(len(self.names))))

    def p(self, query: str) -> Tensor:
        """P(left | right) for a query such as "x1 y1 | x2 y2": sum the joint table, and divide.

        Every variable has its axis in every answer, of length 1 where it was summed out: answers multiply as equations do.
        NaN where the condition has probability 0.
        """
        left, _, right = query.partition("|")
        return self._marginal(_names(left) + _names(right)) / self._marginal(_names(right))

    def _marginal(self, kept: list[str]) -> Tensor:
        gone = [axis for axis, name in enumerate(self.names) if name not in kept]
        return self.table.sum(gone, keepdim=True) if gone else self.table


def two_chains(T: int) -> list[str]:
    """Eq. (8) as the keys of its tables: p(x0, y0), and two chains of T steps that move without each other."""
    return ["x0 y0"] + [f"{z}{t} | {z}{t - 1}" for t in range(1, T + 1) for z in "xy"]


def random_tables(keys: list[str], states: dict[str, int], seed: int) -> dict[str, Tensor]:
    """A random positive table for each key; `states` says how many values a variable has, by its letter."""
    tables, draw = {}, generator("tables", seed)
    for key in keys:
        table = 0.01 + torch.rand([states[name[0]] for name in _names(key)], generator=draw, dtype=torch.float64) ** 3
        tables[key] = table / table.sum(_before_the_bar(key), keepdim=True)
    return tables


def _names(key: str) -> list[str]:
    return key.replace("|", " ").split()


def _before_the_bar(key: str) -> list[int]:
    return list(range(len(key.partition("|")[0].split())))
