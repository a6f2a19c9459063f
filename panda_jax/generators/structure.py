"""A generator as an argument of compiled functions: its structure is static, its arrays are not.

Functions with a structure as a static argument are compiled once for all NNX generators of that structure, whichever
object holds them, and not again at the next call. For other generators nothing shows whether their weights have
changed; they are compiled again unless the caller says that they are the same.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from panda_jax.generators.base import checked_noise, label_rows
from panda_jax.runtime.compatibility import shard_map


@dataclasses.dataclass(frozen=True)
class _ModuleStructure:
  graphdef: Any
  tree: Any

  def generator(self, arrays):
    return nnx.merge(self.graphdef, jax.tree.unflatten(self.tree, arrays))


@dataclasses.dataclass(frozen=True)
class _ObjectStructure:
  """A generator that is not an NNX module: its weights are constants of the compiled functions.

  Attributes:
    token: differs for each `split`, unless these share what is compiled.
  """

  object: Any
  token: Any

  def generator(self, arrays):
    return self.object


Structure = _ModuleStructure | _ObjectStructure


def plain(generator):
  """The generator inside a `Compiled`, or the generator itself."""
  return generator.generator if isinstance(generator, Compiled) else generator


def split(generator, shared: bool = False) -> tuple[Structure, list[jax.Array]]:
  """(structure, arrays): `structure` can be hashed, and `structure.generator(arrays)` is the generator.

  `shared`: compiled functions of a generator that is not an NNX module are used again, with the weights it had.
  """
  generator = plain(generator)
  if not isinstance(generator, nnx.Module):
    return _ObjectStructure(generator, None if shared else object()), []
  graphdef, state = nnx.split(generator)
  arrays, tree = jax.tree.flatten(state)
  return _ModuleStructure(graphdef, tree), arrays


STATIC = {  # the arguments of a method that are static
  'map': ('truncation', 'truncation_layers'),
  'mapping': (),
  'wplus': ('truncation', 'truncation_layers'),
  'styles': (),
  'run_to': ('layer', 'noise'),
  'run_from': ('layer', 'noise', 'drop_rgb'),
  '__call__': ('noise',),
}


def methods(structure: Structure) -> dict[str, Any]:
  """The compiled methods of a generator, with its arrays as first argument; the same for modules of one structure."""
  if isinstance(structure, _ModuleStructure):
    with contextlib.suppress(TypeError):  # a user's module with an attribute that cannot be hashed
      return _shared_methods(structure)
  return _new_methods(structure)


def _new_methods(structure: Structure) -> dict[str, Any]:
  def method(name):
    def call(arrays, *args, **kwargs):
      module = structure.generator(arrays)
      noise_key = kwargs.pop('noise_key', None)
      if noise_key is not None:
        kwargs['noise'] = noise_key
      return getattr(module, name)(*args, **kwargs)

    return jax.jit(call, static_argnames=STATIC[name])

  return {name: method(name) for name in STATIC}


# Only the last few: a program that uses many generators does not keep the compiled functions of all.
_shared_methods = functools.lru_cache(maxsize=8)(_new_methods)


class Compiled:
  """A generator with its methods compiled, itself a generator with the same signatures.

  The module is split once and the compiled functions take its arrays, so a call costs no walk over the module.
  Layer, kind of noise, truncation and `drop_rgb` are fixed per compilation: each new combination (and batch size)
  compiles once, for all generators of the same structure. Weights that are changed in `generator` afterwards are not
  seen: make a new `Compiled`.

  Args:
    generator: an NNX module with the methods of the protocol.

  Example:
    >>> compiled = panda_jax.Compiled(generator)
    >>> latents = compiled.map(np.zeros((2, compiled.z_dim)))
    >>> compiled.run_to(latents, 5).features.shape
    (2, 16, 16, 96)
    >>> before = compiled.compilations()
    >>> state = compiled.run_to(compiled.map(np.ones((2, compiled.z_dim))), 5)
    >>> compiled.compilations() - before
    0
  """

  def __init__(self, generator: nnx.Module):
    self.generator: Any = generator  # both a module and a `Generator`: there is no type for that
    structure, self._arrays = split(generator)
    self._whole = structure.generator
    self._methods = methods(structure)

  def __getattr__(self, name):
    if name == 'generator':  # not set yet while a copy is being made
      raise AttributeError(name)
    return getattr(self.generator, name)  # sizes, layers, sample, affine_weights

  def over(self, mesh: jax.sharding.Mesh, call: Callable) -> Callable:
    """A compiled function of arrays whose rows are split over the devices of a mesh with one axis.

    Each device has the weights, and runs `call(generator, *rows)` on its own rows; nothing is sent.
    """
    rows, everywhere = jax.sharding.PartitionSpec(mesh.axis_names[0]), jax.sharding.PartitionSpec()

    def on_device(arrays, *args):
      return call(self._whole(arrays), *args)

    def on_all(arrays, *args):
      specs = everywhere, *(rows for _ in args)
      # Loops in generators begin with constants, which JAX's check of values that vary over devices refuses.
      return shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=rows, check_vma=False)(arrays, *args)

    arrays = jax.device_put(self._arrays, jax.sharding.NamedSharding(mesh, everywhere))
    return functools.partial(jax.jit(on_all), arrays)

  def compilations(self) -> int:
    """How many compilations there were so far, for this generator and others of its structure."""
    return sum(method._cache_size() for method in self._methods.values())

  def _labels(self, z, labels):
    # Indices become rows here, where their values are still known and can be checked.
    return None if labels is None else label_rows(labels, self.generator.num_classes, np.shape(z)[0])

  def map(self, z, labels=None, truncation=1.0, truncation_layers=None):
    labels = self._labels(z, labels)
    return self._methods['map'](self._arrays, z, labels, truncation=truncation, truncation_layers=truncation_layers)

  def mapping(self, z, labels=None):
    return self._methods['mapping'](self._arrays, z, self._labels(z, labels))

  def wplus(self, w, truncation=1.0, truncation_layers=None):
    return self._methods['wplus'](self._arrays, w, truncation=truncation, truncation_layers=truncation_layers)

  def styles(self, latents):
    return self._methods['styles'](self._arrays, latents)

  def run_to(self, latents, layer, noise='const'):
    return self._methods['run_to'](self._arrays, latents, layer=layer, **_noise_arguments(noise))

  def run_from(self, latents, state, layer, noise='const', drop_rgb=False):
    return self._methods['run_from'](
      self._arrays, latents, state, layer=layer, drop_rgb=bool(drop_rgb), **_noise_arguments(noise)
    )

  def __call__(self, latents, noise='const'):
    return self._methods['__call__'](self._arrays, latents, **_noise_arguments(noise))


def _noise_arguments(noise):
  noise = checked_noise(noise)
  return {'noise': noise} if isinstance(noise, str) else {'noise_key': noise}
