"""Which requests are answered, and the limits in size and time to what is kept for a client."""

import asyncio
import json

import pytest

from panda_jax.app import guard, messages
from panda_jax.app.guard import ANY_ADDRESS, LOOPBACK, Guard

HOST = (b'host', b'127.0.0.1:7860')
JSON = (b'content-type', b'application/json')


def head(method='GET', path='/', headers=()):
  return {'type': 'http', 'method': method, 'path': path, 'query_string': b'', 'headers': [HOST, *headers]}


def refusal(method='GET', path='/', hosts=LOOPBACK, **headers):
  headers = {'host': '127.0.0.1:7860', 'content-type': 'application/json'} | headers
  scope = head(method, path) | {'headers': [(k.encode(), v.encode()) for k, v in headers.items()]}
  return Guard(None, hosts).refusal(scope)


def test_what_the_page_needs_is_let_through():
  for path in ('/', '/favicon.ico', '/static/explorer.js', '/static/pages.css', '/saved/0/x/strip.png'):
    assert refusal(path=path) is None
    assert refusal('HEAD', path) is None
  for origin in ('http://127.0.0.1:7860', 'https://127.0.0.1:7860'):
    assert refusal('POST', '/do/pictures', origin=origin) is None


REFUSED = [
  '/file=/etc/passwd',
  '/docs',
  '/do',
  '/do/',
  '/do/pictures/x',
  '/do/../do/pictures',
  f'/do/{"x" * 99}',
  '/static/',
  '/static/../server.py',
  '/static/index.html',
  '/static/a/b.js',
  '/static/.js',
  '/static/a.js\n',
  f'/static/{"a" * 300}.js',
  '/saved/0/../factors.npz',
  '/saved/x/strip.png',
  '/saved/-1/x/strip.png',
  '/saved/\u0663/x/strip.png',
  f'/saved/{"9" * 5000}/x/strip.png',
  f'/saved/0/{"x" * 300}/strip.png',
  '/saved/0/.hidden/strip.png',
  '/saved/0/a\0b/strip.png',
  '/photographs/a-B_9',
  '//',
  '',
]


@pytest.mark.parametrize('path', REFUSED)
def test_everything_else_is_not(path):
  assert [refusal(method, path) for method in ('GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'X')] == [404] * 6


def test_each_address_has_its_method():
  assert refusal('POST', '/') == refusal('POST', '/static/explorer.js') == refusal('GET', '/do/pictures') == 404


@pytest.mark.parametrize('host', ['127.0.0.1', 'LOCALHOST:1', '[::1]', '[::1]:80'])
def test_names_that_are_ours(host):
  assert refusal(host=host) is None


NAMES = [
  *('', ' ', '[', '[::1', ']', '::1', 'x[', '127.1', '0x7f000001', '10.0.0.7', 'localhost.', 'é', 'x' * 999),
  *('127.0.0.1:x', '127.0.0.1:80:80', 'a@127.0.0.1', '127.0.0.1@a', '127.0.0.1/x', '127.0.0.1#', '127.0.0.1?'),
  *('127.0.0.1,a', 'attacker.example'),
]


@pytest.mark.parametrize('host', NAMES)
def test_other_names_are_not(host):
  """Another site can make one of its names point to this server; then its page can send requests here."""
  assert refusal(host=host) == 400


def test_every_address_is_ours_where_all_are_listened_on():
  hosts = (*LOOPBACK, ANY_ADDRESS)
  for host in ('10.0.0.7:80', '[fe80::1]', 'localhost'):
    assert refusal(host=host, hosts=hosts) is None
  for host in ('attacker.example', '10.0.0.7.example', '['):
    assert refusal(host=host, hosts=hosts) == 400


ORIGINS = [
  'http://attacker.example',
  'http://127.0.0.1:1',
  'file://127.0.0.1:7860',
  '127.0.0.1:7860',
  'null',
  '',
  '*',
  'x[',
]


@pytest.mark.parametrize('method', ['GET', 'POST', 'HEAD', 'OPTIONS'])
@pytest.mark.parametrize('origin', ORIGINS)
def test_pages_of_other_sites_are_refused(method, origin):
  for path in ('/', '/do/pictures', '/do/saved', '/saved/0/x/strip.png'):
    assert refusal(method, path, origin=origin) == 403


@pytest.mark.parametrize('kind', ['', 'text/plain', 'multipart/form-data; boundary=x', 'application/jsonx', 'x' * 5000])
def test_other_types_of_content_are_refused(kind):
  """A form of another site cannot send application/json; old browsers send no origin with a form."""
  headers = {'content-type': kind}
  assert refusal('POST', '/do/saved', **headers) == 415
  assert Guard(None, LOOPBACK).refusal(head('POST', '/do/saved')) == 415
  assert refusal('POST', '/do/saved', **{'content-type': 'Application/JSON; charset=utf-8'}) is None


def test_one_host_and_no_second():
  plain = Guard(None, LOOPBACK)
  assert plain.refusal(head() | {'headers': []}) == 400
  assert plain.refusal(head(headers=[HOST])) == 400


class Answerer:
  """The application behind the guard: answers after `release`, and keeps the messages that arrived."""

  def __init__(self):
    self.seen, self.release = [], asyncio.Event()

  async def __call__(self, scope, receive, send):
    self.seen.append(scope['message'])
    await self.release.wait()
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-type', b'text/plain')]})
    await send({'type': 'http.response.body', 'body': b'x'})


class Client:
  """Sends requests to a guard, and keeps the headers of the answer."""

  def __init__(self, guarded):
    self.guarded, self.gone = guarded, asyncio.Event()

  async def ask(self, scope, *chunks, ends=True):
    waiting = [{'type': 'http.request', 'body': chunk, 'more_body': True} for chunk in chunks]
    if waiting and ends:
      waiting[-1]['more_body'] = False
    told = []

    async def receive():
      if waiting:
        return waiting.pop(0)
      await self.gone.wait()
      return {'type': 'http.disconnect'}

    async def send(answer):
      told.append(answer)

    await self.guarded(scope, receive, send)
    self.headers = dict(told[0].get('headers', []))
    return told[0].get('status')

  def post(self, text='x', **options):
    return self.ask(head('POST', '/do/pictures', headers=[JSON]), json.dumps({'a': text}).encode(), **options)


def ran(what):
  """Runs a coroutine function that takes an application and its guard."""

  async def run():
    app = Answerer()
    return await what(app, Guard(app, LOOPBACK))

  return asyncio.run(asyncio.wait_for(run(), 60))


def test_a_message_is_read_and_held_until_it_is_answered():
  async def run(app, around):
    client = Client(around)
    asking = asyncio.ensure_future(client.post('ü'))
    await asyncio.sleep(0.01)
    assert app.seen == [{'a': 'ü'}]
    assert (around.held > 0, around.waiting) == (True, 1)
    app.release.set()
    assert await asking == 200
    assert (around.held, around.waiting) == (0, 0)
    assert client.headers[b'cross-origin-resource-policy'] == b'same-origin'
    assert b"default-src 'none'" in client.headers[b'content-security-policy']
    assert not [key for key in client.headers if key.lower().startswith(b'access-control')]
    assert await client.ask(head()) == 200
    assert app.seen[-1] is None

  ran(run)


def test_of_an_answer_that_fails_nothing_is_held():
  async def run(app, around):
    async def fails(scope, receive, send):
      raise RuntimeError

    around.app = fails
    with pytest.raises(RuntimeError):
      await Client(around).post()
    assert (around.held, around.waiting) == (0, 0)

  ran(run)


def test_requests_that_wait_are_bounded(monkeypatch):
  monkeypatch.setattr(guard, 'MOST_WAITING', 3)

  async def run(app, around):
    asking = [asyncio.ensure_future(Client(around).post()) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert await Client(around).post() == 503
    app.release.set()
    assert await asyncio.gather(*asking) == [200] * 3
    assert await Client(around).post() == 200

  ran(run)


def test_all_bodies_together_are_bounded(monkeypatch):
  monkeypatch.setattr(guard, 'MOST_HELD', 1000)

  async def run(app, around):
    app.release.set()
    clients = [Client(around) for _ in range(4)]
    post = head('POST', '/do/pictures', headers=[JSON])
    slow = [asyncio.ensure_future(client.ask(post, b'x' * 300, ends=False)) for client in clients[:3]]
    await asyncio.sleep(0.01)
    assert around.held == 900
    assert await clients[3].post('x' * 200) == 503
    for client in clients[:3]:
      client.gone.set()
    await asyncio.gather(*slow)
    assert around.held == 0
    assert await clients[3].post('x' * 200) == 200

  ran(run)


def test_a_body_has_a_deadline_a_size_and_a_meaning(monkeypatch):
  monkeypatch.setattr(guard, 'BODY_SECONDS', 0.05)
  monkeypatch.setattr(messages, 'LARGEST', 1000)

  async def run(app, around):
    client, post = Client(around), head('POST', '/do/pictures', headers=[JSON])
    assert await client.ask(post, b'{', ends=False) == 408
    assert await client.ask(post, b'x' * 600, b'x' * 600) == 413
    assert await client.ask(post, b'[1]') == 400
    client.gone.set()
    assert await client.ask(post, b'{', ends=False) == 400
    assert (around.held, around.waiting, app.seen) == (0, 0, [])

  ran(run)


def test_sockets_of_the_web_are_closed():
  told = []

  async def send(answer):
    told.append(answer)

  asyncio.run(Guard(None, LOOPBACK)({'type': 'websocket', 'path': '/'}, None, send))
  assert told == [{'type': 'websocket.close', 'code': 1008}]
