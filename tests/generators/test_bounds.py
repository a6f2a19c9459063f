"""Bounds of options: every field of every family has a type and a range, and published networks are inside them."""

import dataclasses
import json
import types
import typing

import pytest

from panda_jax.errors import InputError
from panda_jax.generators import bounds, registry
from panda_jax.generators.biggan import deep_options
from panda_jax.generators.fastgan import FastGANOptions
from panda_jax.generators.progan import ProGANOptions
from panda_jax.generators.r3gan import R3GANOptions
from panda_jax.generators.stylegan import StyleGANOptions
from panda_jax.generators.stylegan2 import StyleGAN2Options
from panda_jax.generators.stylegan3_geometry import layer_geometry, published_options
from panda_jax.generators.stylegan_xl import StyleGANXLOptions

WIDTHS = (512,) * 10 + (256, 256, 128, 128, 64, 64, 32, 32)  # of 1024 pixels
LARGE = {
  'progan': ProGANOptions(1024, tuple(width // 2 for width in WIDTHS), 512),
  'stylegan': StyleGANOptions(1024, WIDTHS, 512, 512, (512,) * 8),
  'stylegan2': StyleGAN2Options(1024, WIDTHS, 512, 512, (512,) * 8),
  'stylegan3': published_options(1024, 'r'),
  'stylegan_xl': StyleGANXLOptions(
    64,
    512,
    1000,
    320,
    (
      (512, 1044, 1024, 2.0, 6.0, 3, False, 256.0),
      (32, 1024, 1024, 512.0, 118.0, 3, False, 256.0),
      (3, 1024, 1024, 512.0, 118.0, 1, False, None),
    ),
    *(2, 0.01, 0.25, 6, 2),
  ),
  'biggan': deep_options(512),
  'r3gan': R3GANOptions((1536,) * 5, (2,) * 5, (3072,) * 5, (96,) * 5, 64, 1000, 64),
  'fastgan': FastGANOptions(1024, (2048, 1024, 512, 256, 256, 128, 64, 32, 16), (2, 1) * 4, 256, 1000, 256),
}
NOTHING_FITS = [None, float('nan'), float('inf'), -1, 10**400, 1e308, 'three', b'3', [], [[[3]]], {}, {'a': 1}]


@pytest.mark.parametrize('family', LARGE)
def test_published_networks_are_within(family):
  options = LARGE[family]
  options.check()
  assert registry.options_from_json(family, json.loads(json.dumps(registry.options_to_json(options)))) == options
  if family == 'stylegan3':
    layer_geometry(options)


def test_an_option_that_came_later_leaves_digests_as_they_were():
  options = LARGE['progan']
  assert bounds.written(options) == repr(options).replace(', joint_norm=False', '')
  joint = dataclasses.replace(options, joint_norm=True)
  assert bounds.written(joint) == repr(joint)
  assert bounds.written(LARGE['stylegan2']) == repr(LARGE['stylegan2']).replace(', start=(4, 4)', '')
  assert bounds.written(LARGE['r3gan']) == repr(LARGE['r3gan'])
  assert bounds.written({'of': 'a custom generator'}) == "{'of': 'a custom generator'}"


@pytest.mark.parametrize('family', LARGE)
def test_every_field_has_its_type_and_range(family):
  """A wrong value gives an error that names the field; some fields may be None, a text or empty."""
  options = LARGE[family]
  for field in dataclasses.fields(options):
    hint = typing.get_type_hints(type(options))[field.name]
    for value in NOTHING_FITS:
      if (
        (value is None and types.NoneType in typing.get_args(hint)) or (value == 'three' and hint is str) or value == []
      ):
        continue
      told = registry.options_to_json(options) | {field.name: value}
      with pytest.raises(InputError) as caught:
        registry.options_from_json(family, told).check()
      assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
  ('family', 'field', 'value'),
  [
    ('stylegan3', 'mapping_layers', 10**9),
    ('stylegan3', 'mapping_layers', 200),
    ('stylegan3', 'filter_size', 10**6),
    ('stylegan3', 'lrelu_upsampling', 2**20),
    ('stylegan3', 'margin_size', 10**6),
    ('stylegan3', 'conv_kernel', 10**4),
    ('stylegan3', 'first_cutoff', 1e-300),
    ('stylegan3', 'resolution', 2**30),
    ('stylegan3', 'widths', [1] * 1000),
    ('stylegan3', 'use_radial_filters', 1),
    ('stylegan2', 'resolution', 2**40),
    ('stylegan2', 'mapping_widths', [512] * 10**5),
    ('stylegan2', 'resample_filter', [0.1] * 10**6),
    ('stylegan2', 'resample_filter', [[0.1] * 1000] * 1000),
    ('stylegan2', 'resample_filter', [0.1, float('nan')]),
    ('stylegan2', 'demodulate', 0),
    ('stylegan2', 'clamp', 0),
    ('stylegan2', 'clamp', 2**62),
    ('stylegan', 'blur_filter', [1.0] * 40),
    ('stylegan', 'widths', [2**40] * 18),
    ('progan', 'z_dim', True),
    ('biggan', 'blocks', [[True, 16, 16]] * 10**5),
    ('biggan', 'blocks', [[True, 16, 16]] * 40),  # 4 * 2^40 pixels
    ('biggan', 'blocks', [[1, 16, 16]]),
    ('biggan', 'blocks', []),
    ('biggan', 'n_stats', 10**9),
    ('biggan', 'eps', 2.0),
  ],
  ids=lambda value: str(value)[:20],
)
def test_what_would_drive_a_loop_or_an_allocation_is_refused(family, field, value):
  told = registry.options_to_json(LARGE[family]) | {field: value}
  with pytest.raises(InputError, match=field) as caught:
    registry.options_from_json(family, told).check()
  assert len(str(caught.value)) < 300


def test_filters_are_bounded_by_what_they_come_to():
  with pytest.raises(InputError, match='a filter would have 512 taps'):
    layer_geometry(dataclasses.replace(LARGE['stylegan3'], filter_size=64, lrelu_upsampling=8))
  with pytest.raises(InputError, match='a layer would have no samples'):
    layer_geometry(dataclasses.replace(LARGE['stylegan3'], first_stopband=0.1))


def test_no_more_parts_than_arrays():
  options = LARGE['stylegan3']
  bounds.check_stored(options, 100)
  with pytest.raises(InputError, match=r'widths=.*: only 13 arrays are stored'):
    bounds.check_stored(options, 13)
  with pytest.raises(InputError, match='mapping_layers=100: only 99 arrays are stored'):
    bounds.check_stored(dataclasses.replace(options, mapping_layers=100), 99)
