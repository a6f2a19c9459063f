"""What is let through to Gradio, and how much of it at a time.

Gradio answers many more requests than the page makes, some of which read files, fetch addresses or write; it keeps what
it is sent, and what nobody fetches, for as long as it runs. So what is not on a short list is refused before it gets
there, pages of other sites may not send requests, and whatever is held for a client has a bound and an end.
"""

import asyncio
import contextlib
import dataclasses
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import parse_qsl

from panda_jax.app import messages

LOOPBACK = ('127.0.0.1', 'localhost', '::1')
ANY_ADDRESS = 'any address'
BODY_SECONDS = 30  # until the body of a request is whole
MOST_HELD = 128 << 20  # bytes of requests that arrive or wait, all together
MOST_VISITS = 200  # open pages for which something is at work or waits to be fetched
MOST_EVENTS = 8  # of them for one page
FETCH_SECONDS = 60  # until what nobody fetches is thrown away

_API = '/gradio_api/'
_JOIN, _DATA = f'{_API}queue/join', f'{_API}queue/data'
_NAME = r'[\w@+-][\w.@+-]{0,99}'
ALLOWED = {
  'GET': re.compile(
    rf'/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static)(/{_NAME}){{1,8}}|'
    rf'/saved/\d{{1,4}}/{_NAME}/{_NAME}|/photographs/[\w-]{{1,64}}|'
    rf'{_API}(queue/data|heartbeat/\w{{1,64}}|app_id/?|startup-events|info/?|theme\.css)',
    re.ASCII,
  ),
  'POST': re.compile(_JOIN),
}
_HOST = re.compile(r'(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:\d{1,5})?', re.ASCII)
# Of a request, what the page's needs; Gradio would take its own address from others.
HEADERS_IN = frozenset(
  b'host accept accept-encoding accept-language user-agent range if-range if-none-match if-modified-since '
  b'x-forwarded-proto'.split()
)
HEADERS = {
  # Gradio's page holds scripts, and compiles the templates of its own components.
  'content-security-policy': "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
  "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
  "connect-src 'self' data: blob:; worker-src 'self' blob:; "
  "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
}
SAID = {
  400: 'This is no request of the page, or under a name that the server does not go by (--name gives it another).',
  403: 'Pages of other sites may not ask for this.',
  404: 'There is nothing here.',
  408: 'The request did not arrive in time.',
  409: 'This is fetched already.',
  413: f'The request is larger than {messages.LARGEST >> 20} MB.',
  415: 'This is not JSON.',
  503: 'Too much is asked for at the moment. Try again.',
}


_COMPLETED = re.compile(rb'data: {"msg":"process_completed","event_id":"(\w+)"')
_CLOSED = b'data: {"msg":"close_stream"'


class Refused(Exception):
  """A request that is not answered; `status` of the refusal."""

  def __init__(self, status: int):
    super().__init__(status)
    self.status = status


@dataclasses.dataclass
class Visit:
  """An open page for which something is at work or waits to be fetched.

  Attributes:
    events: {what Gradio calls it: bytes of its request}.
    joining: requests that are being accepted.
    fetching: it is there and takes what comes.
    timer: throws away what is not fetched.
  """

  events: dict[str, int] = dataclasses.field(default_factory=dict)
  joining: int = 0
  fetching: bool = False
  timer: asyncio.TimerHandle | None = None


class Guard:
  """Refuses requests that the page does not make, and marks answers. An ASGI application around another.

  Args:
    app: the other.
    hosts: names that the server may be called by; `ANY_ADDRESS` among them stands for every numeric one.
    inputs: {number of a control: how many values come with it}.
  """

  def __init__(self, app: Callable[..., Awaitable[None]], hosts: Sequence[str], inputs: Mapping[int, int]):
    self.app, self.hosts, self.inputs = app, hosts, inputs
    self.held = 0  # bytes
    self.visits: dict[str, Visit] = {}
    self._throwing: set[asyncio.Task] = set()

  async def __call__(self, scope, receive, send):
    if scope['type'] == 'lifespan':
      await self.app(scope, receive, send)
      return
    if scope['type'] == 'websocket':
      await send({'type': 'websocket.close', 'code': 1008})
      return
    try:
      status = self.refusal(scope)
      if status:
        raise Refused(status)
      path, fetches = scope['path'], scope['path'] == _DATA
      headers = [(k, v) for k, v in scope['headers'] if k in HEADERS_IN and not (fetches and k == b'accept-encoding')]
      clean = scope | {'headers': headers, 'query_string': b''}
      if path == _JOIN:
        if [kind.partition(';')[0].strip() for kind in _given(scope, b'content-type')] != ['application/json']:
          raise Refused(415)
        await self._join(clean, receive, _marked(send))
      elif fetches:
        await self._fetch(clean, scope['query_string'], receive, _marked(send))
      else:
        await self.app(clean, receive, _marked(send))
    except Refused as refused:
      text = SAID[refused.status].encode()
      headers = [(b'content-length', b'%d' % len(text)), (b'content-type', b'text/plain; charset=utf-8')]
      await _marked(send)({'type': 'http.response.start', 'status': refused.status, 'headers': headers})
      await send({'type': 'http.response.body', 'body': text})

  def refusal(self, scope) -> int | None:
    """The status to refuse a request with for what its head says, or None."""
    hosts, origins = (
      [v.decode('latin-1').lower() for k, v in scope['headers'] if k == n] for n in (b'host', b'origin')
    )
    if len(hosts) != 1 or not self._goes_by(hosts[0]):
      return 400  # a name of another site that leads here
    if any(origin not in (f'http://{hosts[0]}', f'https://{hosts[0]}') for origin in origins):
      return 403
    method = 'GET' if scope['method'] == 'HEAD' else scope['method']
    if method not in ALLOWED or '..' in scope['path'] or not ALLOWED[method].fullmatch(scope['path']):
      return 404
    return None

  def _goes_by(self, host: str) -> bool:
    found = _HOST.fullmatch(host)
    name = found[1].strip('[]') if found else ''
    return name in self.hosts or (ANY_ADDRESS in self.hosts and _is_address(name))

  async def _join(self, scope, receive, send) -> None:
    """Something that a control asks for: it is done when its turn comes, and told when the page fetches it."""
    with self._holding() as hold:
      body = await _body(receive, hold)
      message = messages.checked(body, self.inputs)
      if message is None:
        raise Refused(400)
      name, size = message['session_hash'], len(body)
      visit = self._visit(name)
      body = json.dumps(message, ensure_ascii=False).encode()

      async def told(answer):
        event = _event_in(answer.get('body', b''))
        if event is not None:
          self.held += size  # until it is completed, or thrown away
          visit.events[event] = size
        await send(answer)

      visit.joining += 1
      try:
        await self.app(scope | {'headers': [*scope['headers'], _JSON]}, _replayed(body, receive), told)
      finally:
        visit.joining -= 1
        self._settle(name)

  @contextlib.contextmanager
  def _holding(self):
    """Gives a function that is told of bytes that are kept, as long as the context lasts."""
    held = 0

    def hold(count: int) -> None:
      nonlocal held
      if self.held + count > MOST_HELD:
        raise Refused(503)
      self.held += count
      held += count

    try:
      yield hold
    finally:
      self.held -= held

  def _visit(self, name: str) -> Visit:
    visit = self.visits.get(name)
    many = len(self.visits) >= MOST_VISITS if visit is None else len(visit.events) + visit.joining >= MOST_EVENTS
    if many:
      raise Refused(503)
    return self.visits.setdefault(name, Visit())

  async def _fetch(self, scope, query: bytes, receive, send) -> None:
    """What was done for a page, as it comes."""
    name = dict(parse_qsl(query.decode('latin-1'))).get('session_hash', '')
    visit = self.visits.get(name)
    if visit is None or visit.fetching:
      raise Refused(404 if visit is None else 409)
    visit.fetching, closed = True, False
    if visit.timer:
      visit.timer.cancel()

    async def told(answer):
      nonlocal closed
      chunk = answer.get('body', b'')
      found = _COMPLETED.match(chunk)
      self.held -= visit.events.pop(found[1].decode(), 0) if found else 0
      if chunk.startswith(_CLOSED):  # from now on the page may fetch again
        closed, visit.fetching = True, False
        self._settle(name)
      await send(answer)

    try:
      await self.app(scope | {'query_string': f'session_hash={name}'.encode()}, receive, told)
    finally:
      if not closed:  # it is gone, and Gradio has dropped what waited for it
        visit.fetching = False
        self.held -= sum(visit.events.values())
        visit.events.clear()
        self._settle(name)

  def _settle(self, name: str) -> None:
    """Forgets a page for which nothing is left; throws away what is, if the page does not fetch it in time."""
    visit = self.visits[name]
    if visit.timer:
      visit.timer.cancel()
    if visit.events and not visit.fetching:
      visit.timer = asyncio.get_running_loop().call_later(FETCH_SECONDS, self._throw, name)
    elif not (visit.events or visit.fetching or visit.joining):
      del self.visits[name]

  def _throw(self, name: str) -> None:
    task = asyncio.ensure_future(self._fetch(_HEAD_OF_FETCH, f'session_hash={name}'.encode(), _gone, _nowhere))
    self._throwing.add(task)
    task.add_done_callback(self._throwing.discard)


_JSON = (b'content-type', b'application/json')
_HEAD_OF_FETCH = {
  'type': 'http',
  'asgi': {'version': '3.0', 'spec_version': '2.3'},
  'http_version': '1.1',
  'method': 'GET',
  'scheme': 'http',
  'path': _DATA,
  'raw_path': _DATA.encode(),
  'root_path': '',
  'headers': [(b'host', b'localhost')],
  'client': None,
  'server': None,
}


async def _gone():
  """What a client that is no longer there sends: Gradio then drops what waits for it."""
  await asyncio.sleep(0.1)
  return {'type': 'http.disconnect'}


async def _nowhere(answer):
  pass


def _is_address(name: str) -> bool:
  try:
    ipaddress.ip_address(name)
  except ValueError:
    return False
  return True


def _given(scope, name: bytes) -> list[str]:
  """What headers of this name say."""
  return [value.decode('latin-1').lower() for key, value in scope['headers'] if key == name]


def _event_in(said: bytes) -> str | None:
  """What Gradio calls what it has accepted."""
  try:
    return str(json.loads(said)['event_id'])
  except (ValueError, KeyError, TypeError):
    return None


def _marked(send):
  """A `send` with our headers, and without leave for other sites."""

  async def marked(answer):
    if answer['type'] == 'http.response.start':
      given = [(k, v) for k, v in answer.get('headers', []) if not k.lower().startswith(b'access-control-')]
      own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
      answer = answer | {'headers': [*given, *own]}
    await send(answer)

  return marked


async def _body(receive, hold: Callable[[int], None]) -> bytes:
  """The body of a request.

  Raises:
    Refused: it is too large, breaks off, or takes too long.
  """
  body, more = bytearray(), True
  try:
    async with asyncio.timeout(BODY_SECONDS):
      while more:
        message = await receive()
        if message['type'] != 'http.request':
          raise Refused(400)
        chunk, more = message.get('body', b''), message.get('more_body', False)
        if len(body) + len(chunk) > messages.LARGEST:
          raise Refused(413)
        hold(len(chunk))
        body += chunk
  except TimeoutError as error:
    raise Refused(408) from error
  return bytes(body)


def _replayed(body: bytes, receive):
  """A `receive` that gives a body, and then what the other has."""
  waiting = [{'type': 'http.request', 'body': body, 'more_body': False}]

  async def again():
    return waiting.pop() if waiting else await receive()

  return again
