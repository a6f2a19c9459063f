"""Which methods cannot be told from the best: differences on the same samples, with bootstrap intervals.

All methods edit the same samples, so the differences of two methods are taken sample by sample, and resamples draw
samples, not values of each method (Efron and Tibshirani 1993, chapter 8). Intervals are for one pair each: among many
methods one in twenty is told apart by chance. Letters: N samples.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from panda_jax.regions import metrics

MATCHED = 0.01  # relative, to which strengths are matched on test samples


class Measure(NamedTuple):
  """A number of each sample.

  Attributes:
    name: for people.
    sign: 1 where larger is better, -1 where smaller is.
    slack: of the best mean, how far another may be from it because strengths are matched to `MATCHED` only.
  """

  name: str
  sign: int
  slack: Callable[[float], float]


MEASURES = {
  'roir': Measure('ROIR', -1, lambda best: MATCHED * abs(best)),
  'psnr': Measure('PSNR', 1, lambda best: 20 * math.log10(1 + MATCHED)),
  'ssim': Measure('SSIM', 1, lambda best: 2 * MATCHED * (1 - best)),
}


class Difference(NamedTuple):
  """Of a method from the best one.

  Attributes:
    best: the method of the best mean.
    mean, low, high: of this one's values less those of the best, with the ends of the interval (95 %).
    same: whether they cannot be told apart: 0 is in the interval, or the means are apart by less than the slack.
  """

  best: str
  mean: float
  low: float
  high: float
  same: bool


def differences(values: Mapping[str, np.ndarray], measure: Measure, resamples: int) -> dict[str, Difference]:
  """The difference of each method from the best one, on samples of which both have a number.

  Args:
    values: {method: (N,)}, not finite for a sample without a number. A method without any is left out.
    measure: what they are.
    resamples: how many the interval is taken from; they are the same in every call.
  """
  known = {method: np.where(np.isfinite(x), x, np.nan) for method, x in values.items() if np.isfinite(x).any()}
  if not known:
    return {}
  best = max(known, key=lambda method: measure.sign * np.nanmean(known[method]))
  slack = measure.slack(float(np.nanmean(known[best])))
  found = {}
  for method, x in known.items():
    apart = x - known[best]
    apart = apart[np.isfinite(apart)]
    if len(apart):
      said = metrics.summary(apart, resamples=resamples)
      same = said.low <= 0 <= said.high or abs(said.mean) <= slack
      found[method] = Difference(best, said.mean, said.low, said.high, same)
  return found
