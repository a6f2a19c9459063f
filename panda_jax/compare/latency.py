"""The time of one edited image, for each kind of edit in a comparison."""

import statistics
import time

import jax
import numpy as np

from panda_jax.compare.protocol import Applier, Candidate, Samples

REPEATS = 7


def latencies(applier: Applier, samples: Samples, candidate: Candidate) -> float:
  """Milliseconds per image of an edit of one batch, as a user waits for it: from latents or state to image.

  Features before the layer come from the unedited sample and are not computed again; latents are already mapped. It is
  the median of several calls after the first, which compiles.
  """
  first, latents = next(samples.batches())
  if candidate.edit is not None:
    samples.state(first, latents, applier.editor)
    if candidate.refined is not None:
      samples.masks(first, candidate, latents, applier.editor)
  seconds = []
  for i in range(REPEATS + 1):
    began = time.perf_counter()
    jax.block_until_ready(applier.images(samples, first, latents, candidate, np.float32(0.01 * (i + 1))))
    seconds.append(time.perf_counter() - began)
  return 1000 * statistics.median(seconds[1:]) / samples.size
