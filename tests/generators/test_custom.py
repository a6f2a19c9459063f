"""The example of a user's own network: it is a generator, and it runs from beginning to end."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from panda_jax.generators.protocol import Generator

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'custom_generator.py'


@pytest.fixture(scope='module')
def example():
  spec = importlib.util.spec_from_file_location('custom_generator', EXAMPLE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def transposed_convolution(x, weight, stride, padding):
  """Transposed convolution by its definition: every input pixel adds a copy of the kernel. x (I, H, W)."""
  k = weight.shape[2]
  size = (x.shape[1] - 1) * stride + k
  y = np.zeros((weight.shape[1], size, size))
  for i in range(x.shape[1]):
    for j in range(x.shape[2]):
      y[:, i * stride : i * stride + k, j * stride : j * stride + k] += np.einsum('c,cokl->okl', x[:, i, j], weight)
  return y[:, padding : size - padding, padding : size - padding]


def test_layers_are_those_of_the_checkpoint(example):
  tensors = example.random_tensors()
  generator = example.DCGAN(tensors)
  z = np.random.default_rng(0).uniform(-1, 1, (1, 100))
  first = transposed_convolution(z[0][:, None, None], tensors['generator_deconv.0.0.weight'], 1, 0) / np.sqrt(1 + 1e-5)
  latents = generator.map(z.astype(np.float32))
  one, two, three = (generator.run_to(latents, layer).features for layer in (1, 2, 3))
  np.testing.assert_allclose(np.moveaxis(np.asarray(one[0]), -1, 0), first, atol=1e-5)
  third = transposed_convolution(
    np.moveaxis(np.asarray(two[0]), -1, 0), tensors['generator_deconv.2.0.weight'], 2, 1
  ) / np.sqrt(1 + 1e-5)
  np.testing.assert_allclose(np.moveaxis(np.asarray(three[0]), -1, 0), np.where(third < 0, third / 5, third), atol=1e-5)


def test_it_is_a_generator(example):
  generator = example.DCGAN(example.random_tensors())
  assert isinstance(generator, Generator)
  z, labels = generator.sample(jax.random.key(0), 3)
  assert labels is None
  latents = generator.map(z)
  image = generator(latents)
  assert image.shape == (3, 32, 32, 3)
  for layer, (channels, height, width) in generator.layers.items():
    state = generator.run_to(latents, layer)
    assert state.features.shape == (3, height, width, channels)
    np.testing.assert_allclose(generator.run_from(latents, state, layer), image, atol=1e-6)
  edited = generator.run_from(latents, state.replace(features=state.features + 1), layer)
  assert float(jnp.abs(edited - image).max()) > 1e-3


def test_example_runs(example, tmp_path, capsys):
  arguments = ['--layer=3', '--parts=3', '--samples=64', f'--out={tmp_path / "run"}']
  assert example.main(arguments) == 0
  assert (tmp_path / 'run' / 'parts.png').stat().st_size > 1000
  assert 'relative error 0.' in capsys.readouterr().out
  assert example.main([str(tmp_path / 'none.pth'), *arguments]) == 2
  assert 'there is no such file' in capsys.readouterr().err
