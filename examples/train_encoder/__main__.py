"""Trains an encoder for a generator on the generator's own samples; see README.md beside this file.

python -m examples.train_encoder --generator=DIR [--images=200000]

Writes encoder.npz into the generator's folder, or to --out, and recognition.npz beside it. Nothing is written before
the end.
"""

from panda_jax.runtime import signals

if __name__ == '__main__':
  signals.listen()

import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from absl import flags, logging
from flax import nnx

from panda_jax.commands import parser
from panda_jax.errors import InputError, Interrupted, NonFiniteError
from panda_jax.files.access import check_writable
from panda_jax.generators.disk import folder_of, load_generator
from panda_jax.generators.source import weights_digest
from panda_jax.generators.structure import split
from panda_jax.inversion.coordinates import Coordinates, coordinates
from panda_jax.inversion.encoder import FILE, Encoder, save_encoder, sizes_for
from panda_jax.inversion.losses import distances
from panda_jax.inversion.recognition import FILE as RECOGNITION
from panda_jax.inversion.recognition import HELD_OUT, SAMPLES, fitted, save_recognition
from panda_jax.runtime.progress import Progress

SEE = 'see the README beside this module'
RATE = 2e-3
MIXED = 0.5  # share of the samples whose rows of w+ come from two draws
LATENT = 0.05  # weight of the coordinates' error relative to that of the picture
TOLD = 20  # steps between two losses


def drawn(key: jax.Array, count: int, where: Coordinates | None, z_dim: int) -> jax.Array:
  """Coordinates of samples. With w+, a share `MIXED` of them has the later rows of a second draw."""
  if where is None:
    return jax.random.normal(key, (count, z_dim))
  first, second, cut, mixed = jax.random.split(key, 4)
  D, L = where.mean.shape[0], where.rows
  one, other = (jax.random.normal(k, (count, 1, D)) for k in (first, second))
  rows = jnp.arange(L).reshape(1, -1, 1) >= jax.random.randint(cut, (count, 1, 1), 1, L + 1)
  rows = rows & (jax.random.uniform(mixed, (count, 1, 1)) < MIXED)
  return jnp.where(rows, other, one)


def train(generator, images: int, batch: int, seed: int, on_images=lambda name, n: None) -> tuple[Encoder, list[float]]:
  """An encoder for a generator, and its loss every `TOLD` steps.

  Args:
    generator: see the protocol.
    images: samples to train on.
    batch: samples in a step.
    seed: of all draws.
    on_images: called with the number of samples done.

  Raises:
    NonFiniteError: the loss is not finite.
  """
  structure, arrays = split(generator)
  where = coordinates(generator)
  mapped = isinstance(where, Coordinates)
  shape = (where.rows, where.mean.shape[0]) if mapped else (generator.z_dim,)
  encoder = Encoder(sizes_for(generator, shape), nnx.Rngs(seed))
  graphdef, weights = nnx.split(encoder)
  steps = max(1, images // batch)
  optimizer = optax.adam(optax.warmup_cosine_decay_schedule(0, RATE, min(200, steps // 2), steps), b2=0.99)
  classes = generator.num_classes

  @partial(jax.jit, donate_argnums=(1, 2))
  def step(arrays, weights, memory, key):
    run = structure.generator(arrays)
    draw, noise, label = jax.random.split(key, 3)
    x = drawn(draw, batch, where if mapped else None, generator.z_dim)
    rows = jax.nn.one_hot(jax.random.randint(label, (batch,), 0, classes), classes) if classes else None
    pictures = jnp.clip(run(where.latents(run, x, rows), noise=noise), -1, 1)

    def loss(weights):
      found = nnx.merge(graphdef, weights)(pictures)
      made = run(where.latents(run, found, rows), noise='none')
      return jnp.mean(distances(made, pictures)) + LATENT * jnp.mean(jnp.square(found - x))

    value, gradient = jax.value_and_grad(loss)(weights)
    change, memory = optimizer.update(gradient, memory)
    return optax.apply_updates(weights, change), memory, value

  memory, losses = optimizer.init(weights), []
  key = jax.random.key(seed)
  for k in range(steps):
    weights, memory, value = step(arrays, weights, memory, jax.random.fold_in(key, k))
    if k % TOLD == TOLD - 1 or k == steps - 1:
      losses.append(float(value))
      if not jnp.isfinite(value):
        raise NonFiniteError('loss', losses[-1], f'not finite at step {k}', 'report the generator that does it')
      on_images('images', (k + 1) * batch)
  return nnx.merge(graphdef, weights), losses


def defined() -> flags.FlagValues:
  values = flags.FlagValues()
  given = {'flag_values': values, 'module_name': 'flags'}
  flags.DEFINE_string('generator', None, 'Generator: a folder that `panda-jax convert` wrote, or cats64.', **given)
  flags.DEFINE_string('out', None, f'File to write; if left out, {FILE} in the folder of the generator.', **given)
  flags.DEFINE_integer('images', 200_000, 'Samples to train on.', lower_bound=1, **given)
  flags.DEFINE_integer('batch', 32, 'Samples a step.', lower_bound=1, **given)
  flags.DEFINE_integer('seed', 0, 'Seed of all draws.', lower_bound=0, **given)
  return values


def parsed(words: list[str]) -> flags.FlagValues:
  """The flags.

  Raises:
    InputError: a flag is unknown or malformed, or there is no generator.
  """
  values = defined()
  parser.parse(values, words, SEE)
  if not values.generator:
    raise InputError('--generator', None, 'not given', 'give --generator=DIR')
  return values


def run(options: flags.FlagValues) -> Path:
  """Trains and writes; returns the path of the file."""
  generator = load_generator(options.generator)
  out = Path(options.out) if options.out else folder_of(options.generator) / FILE
  check_writable(out, 'out')
  weights = weights_digest(generator).hexdigest()
  count = max(1, options.images // options.batch) * options.batch
  with Progress(count) as progress:
    encoder, _ = train(generator, options.images, options.batch, options.seed, progress.samples_done)
  with Progress(SAMPLES + HELD_OUT) as progress:
    recognition = fitted(generator, weights, options.seed, progress.samples_done)
  save_encoder(encoder, out, weights)
  if recognition is not None:
    save_recognition(recognition, out.with_name(RECOGNITION))
  return out


def main(argv: list[str]) -> int:
  logging.set_verbosity(logging.ERROR)
  if not parser.HELP.isdisjoint(argv[1:]):
    print('\n'.join([__doc__.strip(), *parser.listed(defined())]))
    return 0
  try:
    with signals.keeping(lambda: 'nothing was written'), signals.raising():
      print(run(parsed(argv[1:])))
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except Interrupted as stopped:
    print(signals.sentence(stopped.number, stopped.kept), file=sys.stderr)
    return signals.exit_code(stopped.number)
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv))
