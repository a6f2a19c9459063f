"""What the page sends is read; of anything else nothing is, however large or deep it is."""

import json
import time

import pytest

from panda_jax.app import messages
from panda_jax.app.messages import LARGEST, MOST_VALUES, checked

INPUTS = {3: 2}
GOOD = {'fn_index': 3, 'data': ['fit', 0.5], 'session_hash': 'a1', 'event_data': {'points': [[0.5, 1]]}}


def read(**changes):
  return checked(json.dumps(GOOD | changes).encode(), INPUTS)


def test_what_the_page_sends_is_read_and_nothing_else_of_it():
  assert read(trigger_id=7, batched=True, oauth_token='x', request={}) == GOOD
  assert read(data=[None, True])['data'] == [None, True]
  assert read(data=['fit', 'ü☃'])['data'] == ['fit', 'ü☃']
  assert read(event_data=None)['event_data'] is None


FILE = {'path': '/etc/passwd', 'meta': {'_type': 'gradio.FileData'}, 'orig_name': 'x'}
WRONG = {
  'fn_index': [99999, -1, 10**30, '3', None, True, 3.0, [3], {}],
  'data': [[], ['fit'], ['fit'] * 3, 'ab', None, {}, ['', FILE], ['', [FILE]], ['', {}], ['', [1]], ['', '\ud800']],
  'session_hash': ['', None, 3, 'x' * 65, '../x', 'é', 'a b', ['a'], 'a\n'],
  'event_data': [{'a': [[[[1]]]]}, [[[[[]]]]], {'name': '\udfff'}, {'\ud800': 1}],
}


@pytest.mark.parametrize(('name', 'value'), [(name, value) for name in WRONG for value in WRONG[name]])
def test_a_value_that_the_page_does_not_send_is_not_read(name, value):
  assert read(**{name: value}) is None


BODIES = {
  'empty': b'',
  'broken': b'{',
  'list': b'[]',
  'null': b'null',
  'text': b'"x"',
  'deep': b'[' * 100_000,
  'not UTF-8': b'\xff\xfe{}',
  'UTF-16': json.dumps(GOOD).encode('utf-16'),
  'long number': b'{"fn_index":' + b'9' * 5000 + b'}',
}


@pytest.mark.parametrize('body', BODIES.values(), ids=BODIES)
def test_what_is_no_message_is_not_read(body):
  assert checked(body, INPUTS) is None


@pytest.mark.parametrize(
  'body',
  [
    b'{"data": [' + b'[],' * (LARGEST // 4) + b'[]]}',
    b'{' + b','.join(b'"%d":0' % i for i in range(10**6)) + b'}',
    b'"' + b'\\"' * (LARGEST // 2 - 8),
    b'"' * (LARGEST - 8),
    b'[' * LARGEST,
    b'x' * (LARGEST + 1),
  ],
  ids=['lists', 'keys', 'escapes', 'quotes', 'brackets', 'too large'],
)
def test_a_large_one_costs_little(body):
  start = time.process_time()
  assert checked(body, INPUTS) is None
  assert time.process_time() - start < 5


def test_many_values_are_not_parsed(monkeypatch):
  many = json.dumps(GOOD | {'event_data': list(range(MOST_VALUES + 10))}).encode()
  text = read(data=['[,' * MOST_VALUES, '"\\,' * MOST_VALUES])  # in a text they are no values
  assert len(text['data'][0]) == 2 * MOST_VALUES
  monkeypatch.setattr(messages.json, 'loads', None)
  assert checked(many, INPUTS) is None
