"""Augmentation of the discriminator's images, with a probability that follows its overfitting.

These changes of position and colour do not leak into the generator's images while the probability is below one (Karras
et al. 2020, "Training generative adversarial networks with limited data", sections 2 and 3).
"""

import jax
import jax.numpy as jnp

SHIFT = 1 / 8  # of the image's side, at most
ADJUST_IMAGES = 200_000  # at least, for the probability to go from 0 to 1
MOST = 0.8  # so that the original distribution stays identifiable


def augmented(images: jax.Array, key: jax.Array, probability: jax.Array) -> jax.Array:
  """Images (N, H, W, channels); each change of position, brightness, saturation and contrast has `probability`.

  Shifts are whole pixels; a reflection fills the border.
  """
  N, H, W, _ = images.shape
  keys = jax.random.split(key, 5)

  def chosen(which: int, values: jax.Array, neutral: float) -> jax.Array:
    on = jax.random.uniform(jax.random.fold_in(keys[4], which), (N,)) < probability
    return jnp.where(on, values, neutral).astype(images.dtype).reshape(N, 1, 1, 1)

  images = images + chosen(0, 0.2 * jax.random.normal(keys[0], (N,)), 0.0)
  grey = images.mean(axis=3, keepdims=True)
  images = grey + (images - grey) * chosen(1, jnp.exp2(0.5 * jax.random.normal(keys[1], (N,))), 1.0)
  mean = images.mean(axis=(1, 2, 3), keepdims=True)
  images = mean + (images - mean) * chosen(2, jnp.exp2(0.5 * jax.random.normal(keys[2], (N,))), 1.0)

  most = max(1, int(SHIFT * min(H, W)))
  shifts = jax.random.randint(keys[3], (N, 2), -most, most + 1)
  on = jax.random.uniform(jax.random.fold_in(keys[4], 3), (N, 1)) < probability
  shifts = jnp.where(on, shifts, 0)
  padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode='reflect')
  return jax.vmap(
    lambda image, shift: jax.lax.dynamic_slice(image, (most + shift[0], most + shift[1], 0), (H, W, image.shape[2]))
  )(padded, shifts)


def adjusted(probability: jax.Array, real_logits: jax.Array, target: float) -> jax.Array:
  """The probability after a batch of real logits (N,): it rises while the mean of their signs is above `target`."""
  step = real_logits.shape[0] / ADJUST_IMAGES
  return jnp.clip(probability + step * jnp.sign(jnp.mean(jnp.sign(real_logits)) - target), 0.0, MOST)
