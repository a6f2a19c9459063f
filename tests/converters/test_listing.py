"""`convert --list`: one true line for each dialect."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.conversion import recognised
from panda_jax.converters.dialects import FAMILIES, FORMATS
from panda_jax.converters.dialects.base import Dialect
from panda_jax.converters.listing import WIDTH, lines, rows
from panda_jax.converters.projects import PROJECTS
from panda_jax.errors import InputError
from tests.commands.calls import call, run
from tests.converters.test_networks import made
from tests.generators import checkpoints, plain_biggan_codes, plain_stylegan3
from tests.generators.checkpoints import checkpoint
from tests.generators.plain_biggan_codes import Network
from tests.generators.test_stylegan3 import SMALL

PAGES = Path(__file__).parents[2] / 'docs' / 'families'
TREES = {
  ('progan', 'genforce'): checkpoints.progan,
  ('stylegan', 'genforce'): checkpoints.stylegan,
  ('stylegan2', 'genforce'): checkpoints.stylegan2_genforce,
  ('stylegan2', 'nvlabs'): lambda: checkpoints.stylegan2_nvlabs().state_dict,
  ('stylegan2', 'rosinality'): checkpoints.stylegan2_rosinality,
  ('biggan', 'ajbrock'): lambda: plain_biggan_codes.random_checkpoint(np.random.default_rng(0), Network()),
  ('stylegan3', 'nvlabs'): lambda: plain_stylegan3.random_checkpoint(np.random.default_rng(0), **SMALL),
}


def test_every_dialect_has_a_line():
  told = [(row.family, row.dialect) for row in rows()]
  for family in FAMILIES:
    for dialect in importlib.import_module(f'panda_jax.converters.dialects.{family}').DIALECTS:
      assert (family, dialect) in told
  assert len(told) == len(set(told))
  assert {row.exports for row in rows()} == {'', *FORMATS}


@pytest.mark.parametrize('family', FAMILIES)
def test_an_entry_is_all_that_a_new_dialect_needs(family, monkeypatch):
  module = importlib.import_module(f'panda_jax.converters.dialects.{family}')
  conversion, calls = Conversion(family, 'new', None, {}, {}), []
  new = Dialect(lambda tried: 'new' in tried.tree, lambda *given: calls.append(given) or conversion, '.new', 'itself')
  monkeypatch.setitem(module.DIALECTS, 'new', new)
  found = checkpoint({'new': np.ones(3, np.float32)})
  assert recognised(found, FAMILIES) == family
  assert module.recognise(found) == 'new'
  assert module.convert(found, 'raw', {'colour': 'red'}) is conversion
  assert module.convert(found) is conversion
  assert calls == [(found, 'raw', {'colour': 'red'}), (found, 'ema', {})]
  assert (family, 'new', '.new') in [row[:3] for row in rows()]


@pytest.mark.parametrize('row', [row for row in rows() if row.options], ids=lambda row: f'{row.family} {row.dialect}')
def test_its_options_are_those_that_are_taken(row):
  with pytest.raises(InputError, match='there is no such option') as caught:
    made(TREES[row.family, row.dialect](), colour='red')
  assert caught.value.remedy == f'this layout knows {row.options}'


@pytest.mark.parametrize('family', FAMILIES)
def test_a_family_has_a_page_that_says_how_each_dialect_is_converted(family):
  page = (PAGES / f'{family}.md').read_text()
  assert f'{{{{ family {family} }}}}\n' in page
  assert 'panda-jax convert ' in page
  assert '\n## Where weights are\n' in page
  assert '\nLicence of the weights: ' in page


def test_it_fits_a_screen_and_names_all():
  text = lines()
  assert max(map(len, text)) <= WIDTH
  whole = ' '.join(' '.join(text).split())
  for project in PROJECTS:
    assert project.name in whole
  for family in FAMILIES:  # each name is unbroken
    assert any(line.startswith(f'{family} ') for line in text)


def test_the_command(capsys):
  done = run('convert', '--list')
  assert done.returncode == 0
  assert 'stylegan2    rosinality' in done.stdout
  assert call('convert', 'file.pt', 'folder', '--list') == 2
  assert 'there are none with --list' in capsys.readouterr().err
