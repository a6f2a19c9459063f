"""Messages of the page are read; any other message is refused, also very large or deep ones."""

import json
import time

import pytest

from panda_jax.app import messages
from panda_jax.app.messages import LARGEST, MOST_VALUES, checked

GOOD = {'fit': 'ü☃', 'choice': {'seeds': [0], 'terms': [{'part': [1], 'alpha': 0.5}]}, 'name': None, 'small': True}


def test_what_the_page_sends_is_read():
  assert checked(json.dumps(GOOD).encode()) == GOOD


BODIES = {
  'empty': b'',
  'broken': b'{',
  'list': b'[]',
  'null': b'null',
  'text': b'"x"',
  'deep': b'[' * 100_000,
  'deep in an object': b'{"a":' * 200 + b'1' + b'}' * 200,
  'not UTF-8': b'\xff\xfe{}',
  'UTF-16': json.dumps(GOOD).encode('utf-16'),
  'half a character': b'{"a": "\\ud800"}',
  'long number': b'{"a":' + b'9' * 5000 + b'}',
  'NaN': b'{"a": NaN}',
  'infinity': b'{"a": 1e999}',
}


@pytest.mark.parametrize('body', BODIES.values(), ids=BODIES)
def test_what_is_no_message_is_not_read(body):
  assert checked(body) is None


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
  assert checked(body) is None
  assert time.process_time() - start < 5


def test_many_values_are_not_parsed(monkeypatch):
  text = json.dumps(GOOD | {'a': '[,' * MOST_VALUES, 'b': '"\\,' * MOST_VALUES}).encode()
  assert text.count(b'"') > messages.MOST_QUOTES  # more quotes than any message of the page
  assert checked(text) is None
  assert checked(json.dumps(GOOD | {'a': '[,' * MOST_VALUES}).encode())['a'] == '[,' * MOST_VALUES  # inside a text
  many = json.dumps(GOOD | {'a': list(range(MOST_VALUES + 10))}).encode()
  monkeypatch.setattr(messages, 'parsed_json', None)
  assert checked(many) is None
