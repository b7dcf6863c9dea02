"""A guide rule of your own, to start from: change `Mine`, and run this file.

    python notebooks/my_rule.py                                   its exact verdict, in seconds
    minipig train --rule notebooks/my_rule.py:Mine --out runs/my_rule
    minipig sample runs/my_rule
    minipig lab --rule notebooks/my_rule.py:Mine --seeds 0        trained and ranked

`help(minipig.guider.GuideRule)` says what a rule may return, and what else it may define.
"""

from torch import Tensor

from minipig.guider import NoisyPair
from minipig.sampler import State
from minipig.worlds.verdict import compared, show_verdict


class Mine:
    """Show the estimate, pushed away from 0 where the guider is unsure: x0_hat (3 - x0_hat^2) / 2.

    Trained on clean masks, on which the push changes nothing: f(1) = 1 and f(-1) = -1.
    """

    def train(self, pair: NoisyPair) -> Tensor:
        return pair.x0

    def sample(self, state: State) -> Tensor:
        estimate = state.x0_hat.clamp(-1, 1)
        return estimate * (3 - estimate**2) / 2


if __name__ == "__main__":
    print("ideal networks: distance of the samples from the truth, 0 if exact (blank: no guide)")
    print(show_verdict(compared(Mine())))
