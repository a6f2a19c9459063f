"""Serves the page of the explorer, and nothing else.

Gradio answers many more requests than this page makes, some of which read files, fetch addresses or write. So what is
not on a short list is refused before it gets there. Of any component it takes the path or address of a file in place of
a value, and copies what is there; so values are numbers and texts, or refused. Pages of other sites may not send
requests, and the browser is told to load nothing from elsewhere.
"""

import json
import os
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

from panda_jax.app.fits import Fits
from panda_jax.app.saved import folder_of, readable
from panda_jax.errors import InputError

LARGEST_REQUEST = 24 << 20  # bytes: a session and a mask
LOOPBACK = ('127.0.0.1', 'localhost', '::1')

_API = '/gradio_api/'
ALLOWED = {
  'GET': re.compile(
    r'/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static)/[\w./@+-]+|/saved/\d+/[\w.-]+/[\w.-]+|'
    rf'{_API}(queue/data|heartbeat/\w+|app_id/?|startup-events|info/?|theme\.css)'
  ),
  'POST': re.compile(rf'{_API}(queue/join|cancel|reset)/?'),
}
HEADERS = {
  # Gradio's page holds scripts, and compiles the templates of its own components.
  'content-security-policy': "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
  "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
  "connect-src 'self' data: blob:; worker-src 'self' blob:; "
  "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
}


class Guard:
  """Refuses requests that the page does not make, and marks answers. An ASGI application around another.

  Args:
    app: the other.
    hosts: names that the server may be called by, or None for any.
  """

  def __init__(self, app: Callable[..., Awaitable[None]], hosts: tuple[str, ...] | None):
    self.app, self.hosts = app, hosts

  async def __call__(self, scope, receive, send):
    if scope['type'] == 'lifespan':
      await self.app(scope, receive, send)
      return
    status = self.refusal(scope)
    if not status and scope['method'] == 'POST':
      body = await _body(receive)
      status = None if harmless(body) else 400
      receive = _replayed(body, receive)
    if status:
      await send({'type': 'http.response.start', 'status': status, 'headers': [(b'content-length', b'0')]})
      await send({'type': 'http.response.body', 'body': b''})
      return

    async def marked(message):
      if message['type'] == 'http.response.start':
        own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        message = {**message, 'headers': [*message.get('headers', []), *own]}
      await send(message)

    await self.app(scope, receive, marked)

  def refusal(self, scope) -> int | None:
    """The status to refuse a request with, or None."""
    if scope['type'] != 'http':
      return 404
    method = 'GET' if scope['method'] == 'HEAD' else scope['method']
    path = scope['path']
    if method not in ALLOWED or '..' in path or not ALLOWED[method].fullmatch(path):
      return 404
    given = {name: value.decode('latin-1') for name, value in scope['headers']}
    host = given.get(b'host', '')
    if self.hosts is not None and urlsplit(f'//{host}').hostname not in self.hosts:
      return 400  # a name of another site that leads here
    origin = given.get(b'origin')
    if method == 'POST' and origin is not None and urlsplit(origin).netloc != host:
      return 403
    return None


async def _body(receive) -> bytes | None:
  """The body of a request; None if it is too large or breaks off."""
  body, more = bytearray(), True
  while more:
    message = await receive()
    body += message.get('body', b'')
    if message['type'] != 'http.request' or len(body) > LARGEST_REQUEST:
      return None
    more = message.get('more_body', False)
  return bytes(body)


def _replayed(body: bytes | None, receive):
  """A `receive` that gives the body again, and then what the other has."""
  waiting = [{'type': 'http.request', 'body': body or b'', 'more_body': False}]

  async def again():
    return waiting.pop() if waiting else await receive()

  return again


def harmless(body: bytes | None) -> bool:
  """Whether a request holds values of controls and no more: JSON, its data numbers, texts, yes or no."""
  try:
    values = json.loads(body or b'')
  except (ValueError, RecursionError):
    return False
  data = values.get('data', []) if isinstance(values, dict) else None
  return isinstance(data, list) and all(x is None or isinstance(x, str | int | float) for x in data)


def prepared(workdir: Path) -> None:
  """Settings that Gradio reads when it is imported: silence, and where its own folders go."""
  os.environ |= {
    'GRADIO_ANALYTICS_ENABLED': 'False',
    'HF_HUB_DISABLE_TELEMETRY': '1',
    'GRADIO_RUN_HISTORY': 'False',
    'GRADIO_TEMP_DIR': str(folder_of(workdir) / '.gradio'),
    'GRADIO_MCP_SERVER': 'False',
    'GRADIO_SSR_MODE': 'False',
  }


def application(fits: Fits, hosts: tuple[str, ...] | None = LOOPBACK) -> Guard:
  """The page of some fits as an ASGI application.

  Raises:
    InputError: Gradio is not installed.
  """
  workdirs = list(fits.folders.values())
  prepared(workdirs[0])
  try:
    import fastapi
    import gradio as gr
  except ImportError as error:
    raise InputError('app', error.name, 'it is not installed', "pip install 'panda-jax[app]'") from error
  from panda_jax.app import page

  app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

  @app.get('/saved/{fit}/{name}/{file}')
  def saved(fit: int, name: str, file: str):
    path = readable(workdirs[fit], name, file) if fit < len(workdirs) else None
    if path is None:
      raise fastapi.HTTPException(404)
    return fastapi.responses.FileResponse(path)

  fonts = ['ui-sans-serif', 'system-ui', 'sans-serif']
  app = gr.mount_gradio_app(
    app,
    page.build(fits),
    path='/',
    footer_links=[],
    run_history=False,
    allowed_paths=[],
    ssr_mode=False,
    enable_monitoring=False,
    mcp_server=False,
    pwa=False,
    theme=gr.themes.Base(font=fonts, font_mono=['ui-monospace', 'monospace']),
    css=page.CSS,
  )
  return Guard(app, hosts)


def listening(host: str, port: int) -> socket.socket:
  """A socket that listens.

  Raises:
    InputError: the address cannot be had.
  """
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  try:
    return socket.create_server((host, port), family=family, reuse_port=False)
  except (OSError, OverflowError) as error:
    said = getattr(error, 'strerror', None) or str(error)
    raise InputError('port', port, f'{host} cannot be listened on ({said})', 'give another --port or --host') from error


def serve(fits: Fits, host: str = '127.0.0.1', port: int = 7860) -> None:
  """Serves until interrupted.

  Raises:
    InputError: as of `application` and `listening`.
  """
  connection = listening(host, port)
  app = application(fits, LOOPBACK if host in LOOPBACK else None)
  import uvicorn

  fits.controls(fits.names[0]).engine.warm()
  shown = f'[{host}]' if ':' in host else host
  folders = ', '.join(map(str, fits.folders.values()))
  print(f'http://{shown}:{connection.getsockname()[1]}/ explores {folders}; Ctrl-C ends it', flush=True)
  # Open pages hold connections; they find the server again when it is back.
  uvicorn.Server(uvicorn.Config(app, log_level='warning', timeout_graceful_shutdown=1)).run(sockets=[connection])
