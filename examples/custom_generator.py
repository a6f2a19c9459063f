"""Your own network as a generator: a DCGAN for 32x32 images in some 40 lines, and the parts of its feature maps.

  python examples/custom_generator.py [CHECKPOINT.pth] [--layer=4] [--parts=8] [--center=position] [--out=DIR]

Without a checkpoint the weights are random: this shows the protocol, but the parts have no meaning. A checkpoint is a
flat dict of tensors `generator_deconv.{i}.0.weight` (convolutions) and `generator_deconv.{i}.1.*` (batch norms).
Any class with the methods below is a generator for the rest of the package: see panda_jax/generators/protocol.py.
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import panda_jax
from panda_jax.converters.checkpoint import read
from panda_jax.generators.protocol import Generator, State
from panda_jax.pictures.parts import draw_parts

SHAPES = ((100, 256, 4, 4), (128, 256, 3, 3), (128, 64, 4, 4), (64, 32, 4, 4), (32, 3, 4, 4))


class DCGAN:
  """z in [-1, 1]^100 to faces. Layer l is the output of the first l of five layers; the last gives the image."""

  z_dim, num_classes, resolution, prior = 100, 0, 32, 'uniform'
  layers = {1: (256, 4, 4), 2: (128, 4, 4), 3: (64, 8, 8), 4: (32, 16, 16)}  # noqa: RUF012

  def __init__(self, tensors: dict[str, np.ndarray]):
    self.weights = [tensors[f'generator_deconv.{i}.0.weight'] for i in range(5)]
    self.bias = tensors['generator_deconv.4.0.bias']
    self.norms = []  # batch norm with stored statistics is one factor and one offset per channel
    for i in range(4):
      gain, offset, mean, variance = (
        tensors[f'generator_deconv.{i}.1.{name}'] for name in ('weight', 'bias', 'running_mean', 'running_var')
      )
      factor = gain / np.sqrt(variance + 1e-5)
      self.norms.append((factor, offset - mean * factor))

  def _layer(self, i: int, x: jax.Array) -> jax.Array:
    weight = self.weights[i]
    if i == 1:  # a convolution; PyTorch's kernels are (out, in, k, k)
      step, pad, kernel = 1, 1, weight.transpose(2, 3, 1, 0)
    else:  # a transposed convolution, (in, out, k, k): zeros between pixels, then the kernel rotated by 180 degrees
      kernel = weight.transpose(2, 3, 0, 1)[::-1, ::-1]
      step, pad = (1, 3) if i == 0 else (2, 2)
    x = jax.lax.conv_general_dilated(
      x, kernel, (1, 1), [(pad, pad)] * 2, lhs_dilation=(step, step), dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    if i == 4:
      return jnp.tanh(x + self.bias.reshape(1, 1, 1, -1))
    factor, offset = (a.reshape(1, 1, 1, -1) for a in self.norms[i])
    x = x * factor + offset
    return x if i == 0 else jax.nn.leaky_relu(x, 0.2)

  def _run(self, x: jax.Array, first: int, end: int) -> jax.Array:
    for i in range(first, end):
      x = self._layer(i, x)
    return x

  def map(self, z, labels=None, truncation=1.0, truncation_layers=None) -> jax.Array:
    return jnp.asarray(z)

  def run_to(self, latents, layer, noise='const') -> State:
    return State(self._run(latents[:, None, None, :], 0, layer))

  def run_from(self, latents, state, layer, noise='const', drop_rgb=False) -> jax.Array:
    return self._run(state.features, layer, 5)

  def __call__(self, latents, noise='const') -> jax.Array:
    return self._run(latents[:, None, None, :], 0, 5)

  def sample(self, key, n: int) -> tuple[jax.Array, None]:
    return jax.random.uniform(key, (n, self.z_dim), minval=-1, maxval=1), None


def random_tensors(seed: int = 0) -> dict[str, np.ndarray]:
  """The tensors of a checkpoint, with random numbers."""
  rng, tensors = np.random.default_rng(seed), {}
  for i, shape in enumerate(SHAPES):
    channels, key = shape[0] if i == 1 else shape[1], f'generator_deconv.{i}'
    tensors[f'{key}.0.weight'] = (rng.standard_normal(shape) / np.sqrt(shape[0] * 4)).astype(np.float32)
    for name in ('weight', 'bias', 'running_mean', 'running_var'):
      tensors[f'{key}.1.{name}'] = np.full(channels, float(name in ('weight', 'running_var')), np.float32)
  return tensors | {'generator_deconv.4.0.bias': np.zeros(3, np.float32)}


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('checkpoint', nargs='?', help='a .pth of such a network; random weights without it')
  parser.add_argument('--layer', type=int, default=4, choices=tuple(DCGAN.layers))
  parser.add_argument('--parts', type=int, default=8)
  parser.add_argument('--samples', type=int, default=2000)
  parser.add_argument('--center', default='none', choices=('none', 'position', 'channel'), help='as in panda_jax.fit')
  parser.add_argument('--out', type=Path, default=Path('runs/custom_generator'))
  arguments = parser.parse_args(argv)
  try:
    generator = DCGAN(read(arguments.checkpoint).tree if arguments.checkpoint else random_tensors())
    assert isinstance(generator, Generator)
    z, _ = generator.sample(jax.random.key(0), arguments.samples)
    features = jax.jit(lambda z: generator.run_to(generator.map(z), arguments.layer).features)(z)
    result = panda_jax.fit(features, arguments.parts, center=arguments.center)
  except panda_jax.InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  arguments.out.mkdir(parents=True, exist_ok=True)
  factors = result.factors
  draw_parts(arguments.out / 'parts.png', factors.parts, factors.grid, result.part_energy)
  print(f'relative error {result.relative_error:.4f} ({result.reason}); wrote {arguments.out / "parts.png"}')
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
