"""Choices go to the page and back without change, and input from a page is checked."""

import json
import time

import numpy as np
import pytest

from panda_jax.app.choices import MOST_TERMS, Choice, Offered, Seed, checked_seeds
from panda_jax.editing.zoo import Spec
from panda_jax.errors import InputError
from panda_jax.solver.factors import Factors

TERM = Spec((0,), 1, 2.0)


def test_a_choice_survives_the_way_through_a_page():
  terms = TERM, Spec((), 0, -0.1, mask=(0.0, 0.25, 1.0, 0.0)), Spec((1,), alpha=2.0, direction=(0.5, 1.0))
  for choice in (Choice(), Choice((1, 2**32 - 1), terms, True, 0.7), Choice(photograph='a-B_9')):
    assert Choice.from_json(json.loads(json.dumps(choice.to_json()))) == choice
  assert Choice.from_json({'seeds': [3]}) == Choice((3,))


def test_keys_are_of_samples_or_of_a_photograph():
  assert Choice((3, 4), truncation=0.5).keys == (Seed(3, 0.5), Seed(4, 0.5))
  assert Choice((3, 4), photograph='x').keys == ('x',)


def test_the_last_strength_is_another_and_nothing_acts_at_none():
  choice = Choice(terms=(TERM, Spec((2,), 0, 1.0)))
  assert [term.alpha for term in choice.with_last(-3).terms] == [2, -3]
  assert choice.with_last(0).acting == (TERM,)


GOOD = Choice(terms=(TERM,)).to_json()


def term(**changes):
  return GOOD | {'terms': [GOOD['terms'][0] | changes]}


BAD = {
  'another type': 3,
  'nothing': None,
  'a list': [],
  'no list of terms': GOOD | {'terms': None},
  'a dict of terms': GOOD | {'terms': {'part': [0]}},
  'many terms': GOOD | {'terms': GOOD['terms'] * (MOST_TERMS + 1)},
  'a term that is none': GOOD | {'terms': [3]},
  'unknown field': GOOD | {'path': '/etc/passwd'},
  'unknown field of a term': term(file='x'),
  'an edit of nowhere': GOOD | {'terms': [{'appearance': 0}]},
  'NaN': term(alpha=float('nan')),
  'infinity': term(alpha=float('inf')),
  'truth': term(alpha=True),
  'a sweep': term(alpha=[1.0, 2.0]),
  'no strength': term(alpha=[]),
  'near the end of float32': term(alpha=2.9e38),
  'another unit': term(alpha_unit='rms', rms=1.0),
  'a unit of its own': term(rms=1e38),
  'many seeds': GOOD | {'seeds': list(range(10))},
  'a seed twice': GOOD | {'seeds': [1, 1]},
  'no seed': GOOD | {'seeds': []},
  'seeds of lists': GOOD | {'seeds': [[0]]},
  'a seed that is none': GOOD | {'seeds': ['0']},
  'refined or not': GOOD | {'refined': 1},
  'a key that is none': GOOD | {'photograph': '../x'},
  'a key of lists': GOOD | {'photograph': ['x']},
  'an empty key': GOOD | {'photograph': ''},
  'truncation beyond': GOOD | {'truncation': 2.1},
  'truncation before': GOOD | {'truncation': -0.1},
  'truncation of text': GOOD | {'truncation': '1'},
  'true truncation': GOOD | {'truncation': True},
}


@pytest.mark.parametrize('values', BAD.values(), ids=BAD)
def test_what_is_no_choice_is_refused_in_a_sentence(values):
  with pytest.raises(InputError):
    Choice.from_json(values)


@pytest.mark.parametrize('seeds', [(), (-1,), (2**32,), (True,), (0.5,), tuple(range(10)), (3, 3)])
def test_seeds(seeds):
  with pytest.raises(InputError, match='seeds='):
    checked_seeds(seeds)


@pytest.fixture
def offered():
  """A fit with a grid of 2 x 2 and 3 channels; part 1 and appearance 2 are dead."""
  return Offered.of(Factors(np.eye(3) * [1, 1, 0], np.array([[1, 0, 1]] * 4, float), (2, 2)))


def of(**changes):
  return Choice(terms=(Spec(**{'part': (0,), 'appearance': 1, 'alpha': 2.0} | changes),))


def test_what_the_page_makes_of_a_fit_suits_it(offered):
  for good in (of(), of(part=(0, 2)), of(part=(), mask=(0.0, 1.0, 0.5, 1.0)), of(alpha=-1e30)):
    good.check(offered)
  of(appearance=None, direction=(0.0, 1.0, -2.0)).check(offered)


UNSUITABLE = {
  'a part that is dead': {'part': (1,)},
  'a part beyond': {'part': (3,)},
  'a part before': {'part': (-1,)},
  'a part twice': {'part': (0, 0)},
  'many parts': {'part': tuple(range(1000))},
  'an appearance that is dead': {'appearance': 2},
  'no appearance': {'appearance': None},
  'a long mask': {'part': (), 'mask': (1.0,) * 5},
  'a mask of infinity': {'part': (), 'mask': (1.0, 1.0, 1.0, float('inf'))},
  'a mask of NaN': {'part': (), 'mask': (1.0, 1.0, 1.0, float('nan'))},
  'a large mask': {'part': (), 'mask': (1.0, 1.0, 1.0, 3e38)},
  'a short direction': {'direction': (1.0, 1.0)},
  'a direction of NaN': {'direction': (1.0, 1.0, float('nan'))},
}


@pytest.mark.parametrize('changes', UNSUITABLE.values(), ids=UNSUITABLE)
def test_what_does_not_suit_a_fit_is_refused(offered, changes):
  with pytest.raises(InputError):
    of(**changes).check(offered)


@pytest.mark.parametrize('size', [3000, 10**6])
def test_a_long_list_costs_nothing(offered, size):
  start = time.process_time()
  with pytest.raises(InputError):
    Choice.from_json(GOOD | {'terms': [{'part': [0] * size, 'appearance': 0}]}).check(offered)
  assert time.process_time() - start < 1
