"""What is let through to Gradio and what is not; and that nothing which is held for a client is held for ever."""

import asyncio
import json

import pytest

from panda_jax.app import guard, messages
from panda_jax.app.guard import ANY_ADDRESS, LOOPBACK, Guard

HOST = (b'host', b'127.0.0.1:7860')
JSON = (b'content-type', b'application/json')
JOIN, DATA = '/gradio_api/queue/join', '/gradio_api/queue/data'


def head(method='GET', path='/', query=b'', headers=()):
  return {'type': 'http', 'method': method, 'path': path, 'query_string': query, 'headers': [HOST, *headers]}


def refusal(method='GET', path='/', hosts=LOOPBACK, **headers):
  headers = {'host': '127.0.0.1:7860'} | headers
  scope = head(method, path) | {'headers': [(k.encode(), v.encode()) for k, v in headers.items()]}
  return Guard(None, hosts, {}).refusal(scope)


def test_what_the_page_needs_is_let_through():
  for path in (
    '/',
    '/config',
    '/assets/a-B_1.js',
    '/static/fonts/x/y.woff2',
    DATA,
    '/saved/0/x/strip.png',
    '/photographs/a-B_9',
  ):
    assert refusal(path=path) is None
  assert refusal('HEAD') is None
  for origin in ('http://127.0.0.1:7860', 'https://127.0.0.1:7860'):
    assert refusal('POST', JOIN, origin=origin) is None


REFUSED = [
  '/gradio_api/file=/etc/passwd',
  '/file=/etc/passwd',
  '/gradio_api/proxy=http://example.com',
  '/gradio_api/vibe-code',
  '/gradio_api/process_recording',
  '/gradio_api/component_server',
  '/gradio_api/runs',
  '/gradio_api/upload',
  '/gradio_api/cancel',
  '/gradio_api/run/predict',
  '/monitoring',
  '/saved/0/../factors.npz',
  '/saved/x/strip.png',
  '/saved/-1/x/strip.png',
  '/saved/\u0663/x/strip.png',
  f'/saved/{"9" * 5000}/x/strip.png',
  f'/saved/0/{"x" * 300}/strip.png',
  f'/assets/{"a" * 300}',
  f'/assets{"/a" * 99}',
  f'/gradio_api/heartbeat/{"x" * 99}',
  f'/photographs/{"x" * 99}',
  '/photographs/',
  '/photographs/a.png',
  '/photographs/a/b',
  '/assets//etc/passwd',
  '/assets/./x',
  '/assets/.hidden',
  '/assets/a\0b',
  '/assets/../../secret',
  '/docs',
]


@pytest.mark.parametrize('path', REFUSED)
def test_everything_else_is_not(path):
  assert [refusal(method, path) for method in ('GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'X')] == [404] * 6


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
  """A page of another site reaches the server under a name of that site, if that name leads here."""
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
  for path in ('/', JOIN, DATA, '/gradio_api/heartbeat/x', '/gradio_api/reset'):
    assert refusal(method, path, origin=origin) == 403


def test_one_host_and_no_second():
  plain = Guard(None, LOOPBACK, {})
  assert plain.refusal(head() | {'headers': []}) == 400
  assert plain.refusal(head(headers=[HOST])) == 400


class Gradio:
  """In its place: accepts events, tells that they are completed when `release` is set, and ends with its clients."""

  def __init__(self, status=200):
    self.status, self.seen, self.joined, self.ended = status, [], 0, []
    self.release, self.lingering = asyncio.Event(), asyncio.Event()
    self.lingering.set()

  async def __call__(self, scope, receive, send):
    self.seen.append((scope, await receive() if scope['method'] == 'POST' else None))
    headers = [(b'access-control-allow-origin', b'*'), (b'Access-Control-Allow-Credentials', b'true')]
    await send({'type': 'http.response.start', 'status': self.status, 'headers': headers})
    if scope['path'] != DATA:
      self.joined += 1
      said = {'event_id': f'e{self.joined}'} if self.status == 200 else {'detail': 'no'}
      await send({'type': 'http.response.body', 'body': json.dumps(said).encode()})
      return
    waits = [asyncio.ensure_future(receive()), asyncio.ensure_future(self.release.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    self.ended.append('released' if waits[1].done() else 'gone')
    for task in waits:
      task.cancel()
    if self.release.is_set():
      for k in range(self.joined):
        said = f'data: {{"msg":"process_completed","event_id":"e{k + 1}"}}'.encode()
        await send({'type': 'http.response.body', 'body': said, 'more_body': True})
      self.joined = 0
      await send({'type': 'http.response.body', 'body': b'data: {"msg":"close_stream"}', 'more_body': True})
      await self.lingering.wait()  # nothing comes any more, but it takes its time to end
    await send({'type': 'http.response.body', 'body': b''})


class Client:
  """Asks a guard, and keeps what it is told."""

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

  def join(self, page='p', text='x', headers=(JSON,), **options):
    message = {'fn_index': 0, 'data': [text], 'session_hash': page, 'event_data': None}
    return self.ask(head('POST', JOIN, headers=headers), json.dumps(message).encode(), **options)

  def fetch(self, page='p', query=b''):
    return self.ask(head('GET', DATA, query=query or f'session_hash={page}'.encode()))


def guarded(app):
  return Guard(app, LOOPBACK, {0: 1})


def ran(what):
  """Runs a coroutine that takes what is in Gradio's place, and a guard of it."""

  async def run():
    app = Gradio()
    return await what(app, guarded(app))

  return asyncio.run(asyncio.wait_for(run(), 60))


def test_what_is_done_is_fetched_and_then_nothing_is_held():
  async def run(app, around):
    client = Client(around)
    assert [await client.join() for _ in range(2)] == [200, 200]
    assert around.held > 0
    fetching = asyncio.ensure_future(client.fetch())
    await asyncio.sleep(0)
    assert await Client(around).fetch() == 409
    app.release.set()
    assert await fetching == 200
    assert (around.held, around.visits) == (0, {})
    assert await client.fetch() == 404

  ran(run)


def test_a_page_goes_on_while_what_it_has_fetched_is_ending():
  async def run(app, around):
    app.release.set()
    app.lingering.clear()
    first, then = Client(around), Client(around)
    assert await first.join() == 200
    ending = asyncio.ensure_future(first.fetch())
    while app.ended != ['released']:
      await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await then.join() == 200
    fetching = asyncio.ensure_future(then.fetch())
    await asyncio.sleep(0)
    app.lingering.set()
    assert [await ending, await fetching] == [200, 200]
    assert (around.held, around.visits) == (0, {})

  ran(run)


def test_what_is_asked_for_while_a_page_goes_away_is_not_lost_from_view():
  async def run(app, around):
    going, coming = Client(around), Client(around)
    assert await going.join() == 200
    fetching = asyncio.ensure_future(going.fetch())
    await asyncio.sleep(0)
    visit = around.visits['p']
    visit.joining += 1
    going.gone.set()
    await fetching
    assert around.visits == {'p': visit}
    visit.joining -= 1
    assert await coming.join() == 200
    app.release.set()
    assert await coming.fetch() == 200
    assert (around.held, around.visits) == (0, {})

  ran(run)


def test_only_what_is_needed_gets_to_gradio():
  async def run(app, around):
    extra = [(b'x-forwarded-host', b'attacker.example'), (b'x-gradio-server', b'http://['), (b'cookie', b'x')]
    client = Client(around)
    assert await client.join(headers=[JSON, *extra]) == 200
    scope, body = app.seen[-1]
    assert {key for key, _ in scope['headers']} == {b'host', b'content-type'}
    assert set(json.loads(body['body'])) == {'fn_index', 'data', 'session_hash', 'event_data'}
    assert not [key for key in client.headers if key.lower().startswith(b'access-control')]
    assert client.headers[b'cross-origin-resource-policy'] == b'same-origin'
    await client.ask(head(path='/', query=b'deep_link=../../x&view=api'))
    assert app.seen[-1][0]['query_string'] == b''

  ran(run)


def test_what_nobody_fetches_is_thrown_away(monkeypatch):
  monkeypatch.setattr(guard, 'FETCH_SECONDS', 0.01)

  async def run(app, around):
    assert await Client(around).join() == 200
    while around.visits:
      await asyncio.sleep(0.01)
    assert (around.held, app.ended) == (0, ['gone'])

  ran(run)


def test_of_a_page_that_goes_away_nothing_is_held():
  async def run(app, around):
    client = Client(around)
    await client.join()
    client.gone.set()
    assert await client.fetch() == 200
    assert (around.held, around.visits, app.ended) == (0, {}, ['gone'])

  ran(run)


def test_what_gradio_refuses_is_not_held():
  async def run(app, around):
    app.status = 503
    assert await Client(around).join() == 503
    assert (around.held, around.visits) == (0, {})

  ran(run)


def test_pages_and_what_each_may_ask_for_are_bounded(monkeypatch):
  monkeypatch.setattr(guard, 'MOST_VISITS', 3)
  monkeypatch.setattr(guard, 'MOST_EVENTS', 2)

  async def run(app, around):
    client = Client(around)
    assert [await client.join('a') for _ in range(3)] == [200, 200, 503]
    assert [await client.join(page) for page in 'bcd'] == [200, 200, 503]

  ran(run)


def test_all_bodies_together_are_bounded(monkeypatch):
  monkeypatch.setattr(guard, 'MOST_HELD', 1000)

  async def run(app, around):
    clients = [Client(around) for _ in range(4)]
    post = head('POST', JOIN, headers=[JSON])
    slow = [asyncio.ensure_future(client.ask(post, b'x' * 300, ends=False)) for client in clients[:3]]
    await asyncio.sleep(0.01)
    assert around.held == 900
    assert await clients[3].join(text='x' * 200) == 503
    for client in clients[:3]:
      client.gone.set()
    await asyncio.gather(*slow)
    assert around.held == 0
    assert await clients[3].join(text='x' * 200) == 200

  ran(run)


def test_a_body_has_a_deadline_and_a_size(monkeypatch):
  monkeypatch.setattr(guard, 'BODY_SECONDS', 0.05)
  monkeypatch.setattr(messages, 'LARGEST', 1000)

  async def run(app, around):
    client, post = Client(around), head('POST', JOIN, headers=[JSON])
    assert await client.ask(post, b'{', ends=False) == 408
    assert await client.ask(post, b'x' * 600, b'x' * 600) == 413
    client.gone.set()
    assert await client.ask(post, b'{', ends=False) == 400
    assert (around.held, app.seen) == (0, [])

  ran(run)


@pytest.mark.parametrize('kind', ['', 'text/plain', 'multipart/form-data; boundary=x', 'application/jsonx', 'x' * 5000])
def test_other_types_of_content_are_refused(kind):
  async def run(app, around):
    assert await Client(around).join(headers=[(b'content-type', kind.encode())]) == 415
    assert await Client(around).join(headers=[]) == 415
    assert await Client(around).join(headers=[(b'content-type', b'Application/JSON; charset=utf-8')]) == 200

  ran(run)


@pytest.mark.parametrize(
  'query', [b'x', b'session_hash=nobody', b'session_hash=%ff', b'session_hash=' + b'x' * 9999, b'%']
)
def test_nothing_is_fetched_for_a_page_that_asked_for_nothing(query):
  async def run(app, around):
    assert await Client(around).fetch(query=query) == 404
    assert app.seen == []

  ran(run)


def test_sockets_of_the_web_are_closed():
  told = []

  async def send(answer):
    told.append(answer)

  asyncio.run(guarded(None)({'type': 'websocket', 'path': '/'}, None, send))
  assert told == [{'type': 'websocket.close', 'code': 1008}]
