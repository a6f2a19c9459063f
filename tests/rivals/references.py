"""Stored numbers of the published codes, and the generators of these numbers."""

import functools
import importlib.util
from pathlib import Path

import numpy as np
from flax import nnx

from panda_jax.converters.dialects import progan, stylegan, stylegan2, stylegan3
from panda_jax.generators.biggan import BigGAN, BigGANOptions
from panda_jax.generators.compatibility import value_of
from tests.generators import checkpoints

BEHAVIOUR = checkpoints.DATA / 'behaviour'
EXAMPLE = Path(__file__).parents[2] / 'examples' / 'custom_generator.py'
SOURCES = {
  'stylegan': (stylegan, 'stylegan/checkpoint.pth'),
  'stylegan2': (stylegan2, 'stylegan2/checkpoint.pth'),
  'pggan': (progan, 'pggan/checkpoint.pth'),
  'stylegan3': (stylegan3, 'stylegan3_t/network.pkl'),
}


@functools.cache
def numbers(name: str) -> dict[str, np.ndarray]:
  """The arrays of tests/data/behaviour/NAME.npz."""
  with np.load(BEHAVIOUR / f'{name}.npz') as file:
    return dict(file)


@functools.cache
def generator(name: str):
  """The generator of a fixture, through our converters."""
  converter, path = SOURCES[name]
  return checkpoints.generator(converter, path)


def filled(make, seed: int = 0):
  """What `make` makes, its arrays drawn by NumPy: without compiling a program for each of their shapes."""
  graphdef, state = nnx.split(nnx.eval_shape(make))
  rng, flat = np.random.default_rng(seed), nnx.to_flat_state(state)
  for path, variable in flat:
    shape = value_of(variable).shape
    drawn = rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[:-1])))
    variable.set_value(np.asarray(1 + drawn**2 if path[-1] == 'variances' else drawn, np.float32))
  return nnx.merge(graphdef, state)


@functools.cache
def biggan() -> BigGAN:
  """A small BigGAN with an attention, random weights, 5 classes, z of 10 numbers, 16x16 pixels."""
  blocks = ((False, 4, 4), (True, 4, 2), (True, 2, 1))
  return filled(lambda: BigGAN(BigGANOptions(10, 5, 8, blocks, 2, 3, 1e-4), nnx.Rngs(0)))


@functools.cache
def biggan_of_pieces() -> BigGAN:
  """A small BigGAN whose blocks see a piece of z each, 5 of 15 numbers; random weights, 5 classes, 16x16 pixels."""
  blocks = ((True, 4, 2), (True, 2, 1))
  options = BigGANOptions(15, 5, 8, blocks, (1,), 1, 1e-4, block='plain', conditioning='split', embedding_dim=6)
  return filled(lambda: BigGAN(options, nnx.Rngs(0)))


@functools.cache
def dcgan():
  """The DCGAN of the example, with random weights."""
  spec = importlib.util.spec_from_file_location('custom_generator', EXAMPLE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.DCGAN(module.random_tensors())


def nchw(images) -> np.ndarray:
  return np.moveaxis(np.asarray(images), -1, 1)


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
  """|cos| of rows (k, d) of unit length, pair by pair."""
  return np.abs(np.einsum('kd,kd->k', np.asarray(ours, np.float64), np.asarray(theirs, np.float64)))
