"""Which requests are answered, and how many at a time: an ASGI application around the explorer's application.

A request that is not on a short list is refused before its body is read. Pages of other sites may not send requests.
Everything that is held for a client has a limit in size and in time.
"""

import asyncio
import contextlib
import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence

from panda_jax.app import messages

LOOPBACK = ('127.0.0.1', 'localhost', '::1')
ANY_ADDRESS = 'any address'
BODY_SECONDS = 30  # until the body of a request is complete
MOST_HELD = 128 << 20  # bytes of all requests that arrive or wait
MOST_WAITING = 200  # requests that wait or are being answered

_NAME = r'[\w@+-][\w.@+-]{0,99}'
ALLOWED = {
  'GET': re.compile(rf'/|/favicon\.ico|/static/[a-z]{{1,20}}\.(css|js)|/saved/\d{{1,4}}/{_NAME}/{_NAME}', re.ASCII),
  'POST': re.compile(r'/do/[a-z]{1,20}', re.ASCII),
}
_HOST = re.compile(r'(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:\d{1,5})?', re.ASCII)
HEADERS = {
  'content-security-policy': "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
  "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
}
SAID = {
  400: 'This is not a request of the page, or under a name that the server does not go by (--name gives it another).',
  403: 'Pages of other sites may not ask for this.',
  404: 'There is nothing here.',
  408: 'The request did not arrive in time.',
  413: f'The request is larger than {messages.LARGEST >> 20} MB.',
  415: 'This is not JSON.',
  503: 'Too much is asked for at the moment. Try again.',
}


class Refused(Exception):
  """A request that is not answered; `status` of the refusal."""

  def __init__(self, status: int):
    super().__init__(status)
    self.status = status


class Guard:
  """Refuses requests that the page does not make, reads the others, and adds headers to answers.

  Args:
    app: an ASGI application that answers; its scope has the message of a request under 'message'.
    hosts: names of the server that requests may use; `ANY_ADDRESS` stands for every numeric address.
  """

  def __init__(self, app: Callable[..., Awaitable[None]], hosts: Sequence[str]):
    self.app, self.hosts = app, hosts
    self.held = self.waiting = 0  # bytes; requests

  async def __call__(self, scope, receive, send):
    if scope['type'] == 'lifespan':
      await _lifespan(receive, send)
      return
    if scope['type'] == 'websocket':
      await send({'type': 'websocket.close', 'code': 1008})
      return
    send = _marked(send)
    try:
      status = self.refusal(scope)
      if status:
        raise Refused(status)
      with self._held() as hold:
        message = await _message(scope, receive, hold) if scope['method'] == 'POST' else None
        await self.app(scope | {'message': message}, receive, send)
    except Refused as refused:
      text = SAID[refused.status].encode()
      headers = [(b'content-length', b'%d' % len(text)), (b'content-type', b'text/plain; charset=utf-8')]
      await send({'type': 'http.response.start', 'status': refused.status, 'headers': headers})
      await send({'type': 'http.response.body', 'body': b'' if scope['method'] == 'HEAD' else text})

  def refusal(self, scope) -> int | None:
    """The status with which a request is refused because of its head, or None."""
    hosts, origins = _given(scope, b'host'), _given(scope, b'origin')
    if len(hosts) != 1 or not self._goes_by(hosts[0]):
      return 400  # another site's name that points to this server
    if any(origin not in (f'http://{hosts[0]}', f'https://{hosts[0]}') for origin in origins):
      return 403
    method = 'GET' if scope['method'] == 'HEAD' else scope['method']
    if method not in ALLOWED or not ALLOWED[method].fullmatch(scope['path']):
      return 404
    if method == 'POST':
      kinds = [kind.partition(';')[0].strip() for kind in _given(scope, b'content-type')]
      return None if kinds == ['application/json'] else 415
    return None

  def _goes_by(self, host: str) -> bool:
    found = _HOST.fullmatch(host)
    name = found[1].strip('[]') if found else ''
    return name in self.hosts or (ANY_ADDRESS in self.hosts and _is_address(name))

  @contextlib.contextmanager
  def _held(self):
    """Counts one waiting request; gives a function that counts the bytes kept for it."""
    if self.waiting >= MOST_WAITING:
      raise Refused(503)
    self.waiting, held = self.waiting + 1, 0

    def hold(count: int) -> None:
      nonlocal held
      if self.held + count > MOST_HELD:
        raise Refused(503)
      self.held += count
      held += count

    try:
      yield hold
    finally:
      self.waiting -= 1
      self.held -= held


async def _lifespan(receive, send) -> None:
  for phase in ('startup', 'shutdown'):
    await receive()
    await send({'type': f'lifespan.{phase}.complete'})


def _is_address(name: str) -> bool:
  try:
    ipaddress.ip_address(name)
  except ValueError:
    return False
  return True


def _given(scope, name: bytes) -> list[str]:
  """The values of the headers of this name."""
  return [value.decode('latin-1').lower() for key, value in scope['headers'] if key == name]


def _marked(send):
  """A `send` that adds our headers."""
  own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

  async def marked(answer):
    if answer['type'] == 'http.response.start':
      answer = answer | {'headers': [*answer.get('headers', []), *own]}
    await send(answer)

  return marked


async def _message(scope, receive, hold: Callable[[int], None]):
  """The message in a request's body.

  Raises:
    Refused: the body is too large, incomplete, too slow, or not a message.
  """
  body, more = bytearray(), True
  try:
    async with asyncio.timeout(BODY_SECONDS):
      while more:
        part = await receive()
        if part['type'] != 'http.request':
          raise Refused(400)
        chunk, more = part.get('body', b''), part.get('more_body', False)
        if len(body) + len(chunk) > messages.LARGEST:
          raise Refused(413)
        hold(len(chunk))
        body += chunk
  except TimeoutError as error:
    raise Refused(408) from error
  message = messages.checked(bytes(body))
  if message is None:
    raise Refused(400)
  return message
