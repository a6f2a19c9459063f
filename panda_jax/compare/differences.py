"""Which methods do not differ clearly from the best: differences on the same samples, with bootstrap intervals.

All methods edit the same samples, so two methods are compared sample by sample, and resamples draw samples, not values
of each method (Efron and Tibshirani 1993, chapter 8). Each interval is for one pair: among many equal methods, one in
twenty differs by chance. Letters: N samples.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from panda_jax.regions import metrics

MATCHED = 0.01  # relative precision of matched strengths on test samples


class Measure(NamedTuple):
  """A number of each sample.

  Attributes:
    name: for readers.
    sign: 1 where larger is better, -1 where smaller is.
    slack: from the best mean, the difference that may come from matching strengths only to `MATCHED`.
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
  """The difference of a method from the best one.

  Attributes:
    best: the method of the best mean.
    mean, low, high: of this method's values minus those of the best, with the ends of the interval (95 %).
    same: whether the two do not differ clearly: 0 is in the interval, or the means differ by less than the slack.
  """

  best: str
  mean: float
  low: float
  high: float
  same: bool


def differences(values: Mapping[str, np.ndarray], measure: Measure, resamples: int) -> dict[str, Difference]:
  """The difference of each method from the best one, on samples where both have a number.

  Args:
    values: {method: (N,)}, not finite for a sample without a number. A method without any number is left out.
    measure: of the values.
    resamples: number for the interval; they are the same in every call.
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
