"""The registry: families by name, options to and from JSON."""

import dataclasses
import json
import subprocess
import sys

import pytest
from flax import nnx

from panda_jax.errors import InputError
from panda_jax.generators import registry
from panda_jax.generators.biggan import BigGANOptions
from panda_jax.generators.progan import ProGANOptions
from panda_jax.generators.stylegan3_geometry import published_options

OPTIONS = BigGANOptions(5, 4, 8, ((True, 2, 2), (False, 2, 1)), 1, 3, 1e-4)


@pytest.mark.parametrize('family', registry.FAMILIES)
def test_every_family_is_there(family):
  generator, options = registry.generator_class(family), registry.options_class(family)
  assert issubclass(generator, nnx.Module)
  assert generator.family == family
  assert dataclasses.is_dataclass(options)
  assert options.__dataclass_params__.frozen


def test_options_come_back_from_json():
  for family, options in (('biggan', OPTIONS), ('stylegan3', published_options(64, 'r'))):
    text = json.dumps(registry.options_to_json(options))
    assert registry.options_from_json(family, json.loads(text)) == options


def test_an_abstract_generator_is_like_a_real_one():
  abstract, real = registry.abstract('biggan', OPTIONS), registry.create('biggan', registry.options_to_json(OPTIONS))
  shapes = [[v.shape for _, v in nnx.to_flat_state(nnx.state(g))] for g in (abstract, real)]
  assert shapes[0] == shapes[1]
  assert abstract.layers == real.layers


def test_wrong_names():
  values = registry.options_to_json(OPTIONS)
  with pytest.raises(InputError, match=r'family=gan2: .*progan, stylegan'):
    registry.create('gan2', OPTIONS)
  with pytest.raises(InputError, match='eps missing and epsilon unknown'):
    registry.options_from_json('biggan', {('epsilon' if key == 'eps' else key): v for key, v in values.items()})
  with pytest.raises(InputError, match='hyper-parameters are a dict'):
    registry.options_from_json('biggan', [1])


def test_an_option_that_came_later_may_be_missing_from_older_files():
  values = registry.options_to_json(ProGANOptions(8, (4, 4, 4, 4), 3, num_classes=2, joint_norm=True))
  assert registry.options_from_json('progan', values).joint_norm
  del values['joint_norm']
  assert not registry.options_from_json('progan', values).joint_norm
  del values['final_tanh']
  with pytest.raises(InputError, match='final_tanh missing'):
    registry.options_from_json('progan', values)


def test_families_are_imported_when_used():
  script = 'import sys; from panda_jax.generators import registry; print([m for m in sys.modules if "gan" in m])'
  done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True, timeout=120)
  assert done.stdout.strip() == '[]'
