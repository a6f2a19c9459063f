"""Sessions: every change is one step back, a slide is one step, and what comes from a page is checked."""

import json
import time

import numpy as np
import pytest

from panda_jax.app.choices import LARGEST, MOST_STEPS, MOST_TERMS, Choice, Session, checked_seeds
from panda_jax.editing.zoo import Spec
from panda_jax.errors import InputError
from panda_jax.factors import Factors


def test_every_change_is_undone():
  steps = [Session()]
  for change in (
    lambda s: s.with_part(3),
    lambda s: s.with_alpha(2.0),
    lambda s: s.with_appearance(1),
    lambda s: s.with_seeds((4, 5)),
    lambda s: s.with_refined(True),
    lambda s: s.kept(),
    lambda s: s.with_mask(np.array([0, 1], np.float32)),
    lambda s: s.with_terms((Spec((1,), 2, 3.0),)),
  ):
    steps.append(change(steps[-1]))
    assert steps[-1].now != steps[-2].now
  for before in steps[-2::-1]:
    steps[-1] = steps[-1].undone()
    assert steps[-1].now == before.now
  assert steps[-1].undone() == steps[-1]


def test_a_slide_is_one_step_and_another_slide_another():
  start = Session().with_part(0)
  slid = start.with_alpha(1).with_alpha(1.5).with_alpha(1.5).with_alpha(2)
  assert (slid.now.current.alpha, slid.undone().now) == (2, start.now)
  again = slid.with_appearance(3).with_alpha(4).with_alpha(5)
  assert again.undone().now.current.alpha == 2
  assert again.undone().now.current.appearance == 3


def test_the_past_has_an_end():
  session = Session()
  for part in range(MOST_STEPS + 5):
    session = session.with_part(part)
  assert len(session.past) == MOST_STEPS
  assert session.past[-1].current.part == (MOST_STEPS + 3,)


def test_a_part_replaces_a_mask_and_the_other_way_round():
  session = Session().with_mask(np.ones(4)).with_part(2)
  assert (session.now.current.part, session.now.current.mask) == ((2,), None)
  session = session.with_mask(np.ones(4))
  assert (session.now.current.part, session.now.current.mask) == ((), (1.0,) * 4)


def test_what_acts_nowhere_is_no_edit_and_cannot_be_kept():
  assert Session().now.complete == ()
  with pytest.raises(InputError, match='acts nowhere'):
    Session().kept()
  session = Session().with_part(1).with_alpha(2.0)
  assert session.kept().now.complete == session.now.complete
  for _ in range(MOST_TERMS - 1):
    session = session.kept().with_part(1)
  with pytest.raises(InputError, match='added up at most'):
    session.kept()


def test_a_session_survives_the_way_through_a_page():
  session = Session().with_part(3).with_alpha(0.1).with_mask(np.array([0, 0.25, 1])).kept().with_seeds((1, 2**32 - 1))
  session = session.with_terms((*session.now.terms, Spec((1,), alpha=2.0, direction=(0.5, 1.0)))).with_alpha(1.5)
  assert Session.from_json(session.to_json()) == session
  assert Session.from_json('') == Session.from_json(None) == Session()
  shown = session.with_photograph('a-B_9')
  assert Session.from_json(shown.to_json()) == shown
  assert shown.now.samples == ('a-B_9',)
  assert shown.with_seeds((1,)).now.samples == (1,)


def test_a_session_is_never_larger_than_what_is_read():
  rng, session = np.random.default_rng(0), Session()
  for _ in range(MOST_STEPS):
    session = session.with_mask(rng.random(256 * 256))
  text = session.to_json()
  assert len(text) <= LARGEST
  read = Session.from_json(text)
  assert read.now == session.now
  assert 0 < len(read.past) < len(session.past)
  assert read.past == session.past[-len(read.past) :]


GOOD = {'now': Choice().to_json(), 'past': [], 'sliding': False}
BAD = {
  'no JSON': '{',
  'another type': 3,
  'a list': '[]',
  'deep': '[' * 100_000,
  'no past': json.dumps({'now': GOOD['now'], 'sliding': False}),
  'long past': json.dumps(GOOD | {'past': [GOOD['now']] * (MOST_STEPS + 1)}),
  'no term': json.dumps(GOOD | {'now': GOOD['now'] | {'terms': []}}),
  'many terms': json.dumps(GOOD | {'now': GOOD['now'] | {'terms': GOOD['now']['terms'] * (MOST_TERMS + 1)}}),
  'unknown field': json.dumps(GOOD | {'now': GOOD['now'] | {'path': '/etc/passwd'}}),
  'unknown field of a term': json.dumps(GOOD | {'now': GOOD['now'] | {'terms': [{'appearance': 0, 'file': 'x'}]}}),
  'NaN': json.dumps(GOOD | {'now': GOOD['now'] | {'terms': [{'appearance': 0, 'alpha': float('nan')}]}}),
  'many seeds': json.dumps(GOOD | {'now': GOOD['now'] | {'seeds': list(range(10))}}),
  'much': json.dumps(GOOD | {'past': [[]] * 10**6}),
  'a seed twice': json.dumps(GOOD | {'now': GOOD['now'] | {'seeds': [1, 1]}}),
  'no seed': json.dumps(GOOD | {'now': GOOD['now'] | {'seeds': []}}),
  'seeds of lists': json.dumps(GOOD | {'now': GOOD['now'] | {'seeds': [[0]]}}),
  'refined or not': json.dumps(GOOD | {'now': GOOD['now'] | {'refined': 1}}),
  'sliding or not': json.dumps(GOOD | {'sliding': 'yes'}),
  'more': json.dumps(GOOD | {'path': 'x'}),
  'many digits': json.dumps(GOOD).replace('[0]', '[' + '9' * 5000 + ']'),
  'a key that is none': json.dumps(GOOD | {'now': GOOD['now'] | {'photograph': '../x'}}),
  'a key of lists': json.dumps(GOOD | {'now': GOOD['now'] | {'photograph': ['x']}}),
  'no key': json.dumps(GOOD | {'now': GOOD['now'] | {'photograph': None}}),
  'a seed that is none': json.dumps(GOOD | {'now': GOOD['now'] | {'seeds': ['0']}}),
}


@pytest.mark.parametrize('text', BAD.values(), ids=BAD)
def test_what_is_no_session_is_refused_in_a_sentence(text):
  with pytest.raises(InputError, match=r'session=\(from the page\): it cannot be read'):
    Session.from_json(text)


@pytest.mark.parametrize('seeds', [(), (-1,), (2**32,), (True,), (0.5,), tuple(range(10)), (3, 3)])
def test_seeds(seeds):
  with pytest.raises(InputError, match='seeds='):
    checked_seeds(seeds)


@pytest.fixture
def factors():
  """Of a grid of 2 x 2 and 3 channels; part 1 and appearance 2 are dead."""
  return Factors(np.eye(3) * [1, 1, 0], np.array([[1, 0, 1]] * 4, float), (2, 2))


def of(**changes):
  return Session(Choice(terms=(Spec(**{'part': (0,), 'appearance': 1, 'alpha': 2.0} | changes),)))


def test_what_the_page_makes_of_a_fit_suits_it(factors):
  for good in (of(), of(part=(0, 2)), of(part=(), mask=(0.0, 1.0, 0.5, 1.0)), of(alpha=-1e30)):
    good.check(factors)
  of(appearance=None, direction=(0.0, 1.0, -2.0)).check(factors)


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
  'a sweep': {'alpha': (1.0, 2.0)},
  'no strength': {'alpha': ()},
  'near the end of float32': {'alpha': 2.9e38},
  'another unit': {'alpha_unit': 'rms', 'rms': 1.0},
  'a unit of its own': {'rms': 1e38},
}


@pytest.mark.parametrize('changes', UNSUITABLE.values(), ids=UNSUITABLE)
def test_what_does_not_suit_a_fit_is_refused_also_in_the_past(factors, changes):
  for session in (of(**changes), Session(Choice(), (of(**changes).now,))):
    with pytest.raises(InputError, match='it does not suit this fit'):
      session.check(factors)


@pytest.mark.parametrize('size', [3000, 10**6])
def test_a_long_list_costs_nothing(factors, size):
  text = json.dumps(GOOD | {'now': GOOD['now'] | {'terms': [{'part': [0] * size, 'appearance': 0}]}})
  start = time.process_time()
  with pytest.raises(InputError, match='session='):
    Session.from_json(text).check(factors)
  assert time.process_time() - start < 1
