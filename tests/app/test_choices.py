"""Sessions: every change is one step back, a slide is one step, and what comes from a page is checked."""

import json

import numpy as np
import pytest

from panda_jax.app.choices import MOST_STEPS, MOST_TERMS, Choice, Session, checked_seeds
from panda_jax.errors import InputError
from panda_jax.zoo import Spec


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
  'a seed that is none': json.dumps(GOOD | {'now': GOOD['now'] | {'seeds': ['0']}}),
}


@pytest.mark.parametrize('text', BAD.values(), ids=BAD)
def test_what_is_no_session_is_refused_in_a_sentence(text):
  with pytest.raises(InputError, match=r'session=\(from the page\): it cannot be read'):
    Session.from_json(text)


@pytest.mark.parametrize('seeds', [(), (-1,), (2**32,), (True,), (0.5,), tuple(range(10))])
def test_seeds(seeds):
  with pytest.raises(InputError, match='seeds='):
    checked_seeds(seeds)
