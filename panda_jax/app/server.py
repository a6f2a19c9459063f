"""Serves the page of the explorer, and nothing else.

The limits for clients are in connections.py (connections), guard.py (requests), messages.py (contents of requests),
choices.py (edits) and saves.py (files).
"""

import asyncio
import json
import socket
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from types import MappingProxyType
from typing import Any

from panda_jax.app import answers
from panda_jax.app.fits import Fits
from panda_jax.app.guard import ANY_ADDRESS, LOOPBACK, Guard, Refused
from panda_jax.app.saves import readable
from panda_jax.errors import InputError
from panda_jax.files.access import read_bytes
from panda_jax.pictures import pages

BACKLOG = 100  # connections that wait to be accepted
AT_ONCE = 4  # answers that are made at a time, for all users together
LARGEST_SAVED = 1 << 28  # bytes of a file
KINDS = MappingProxyType(
  {
    'css': 'text/css; charset=utf-8',
    'gif': 'image/gif',
    'html': 'text/html; charset=utf-8',
    'js': 'text/javascript; charset=utf-8',
    'json': 'application/json',
    'png': 'image/png',
    'svg': 'image/svg+xml',
  }
)


def files_of_page() -> dict[str, bytes]:
  """{address: content} of the page's files."""
  folder = resources.files('panda_jax.app') / 'page'
  found = {
    f'/static/{file.name}': file.read_bytes() for file in folder.iterdir() if file.name.endswith(('.css', '.js'))
  }
  found['/static/pages.css'] = pages.STYLE.encode()
  return found | {'/': (folder / 'index.html').read_bytes(), '/favicon.ico': (folder / 'icon.svg').read_bytes()}


class Explorer:
  """The ASGI application behind a guard.

  Args:
    fits: that can be chosen.
  """

  def __init__(self, fits: Fits):
    self.fits, self.files, self.workdirs = fits, files_of_page(), list(fits.folders.values())
    self._turns = asyncio.Semaphore(AT_ONCE)
    self._alone = {name: asyncio.Semaphore(1) for name in answers.ALONE}

  async def __call__(self, scope, receive, send):
    path = scope['path']
    if scope['method'] == 'POST':
      await self._answered(path.removeprefix('/do/'), scope['message'], receive, send)
      return
    content, headers = await asyncio.to_thread(self._file, path)
    headers = [(b'content-length', b'%d' % len(content)), *headers]
    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
    await send({'type': 'http.response.body', 'body': b'' if scope['method'] == 'HEAD' else content})

  def _file(self, path: str) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The content at an address, and its headers.

    Raises:
      Refused: there is nothing at this address.
    """
    if path in self.files:
      name = {'/': 'index.html', '/favicon.ico': 'icon.svg'}.get(path, path)
      return self.files[path], _headers(name)
    _, kind, *names = path.split('/')
    if kind == 'saved' and int(names[0]) < len(self.workdirs):
      file = readable(self.workdirs[int(names[0])], names[1], names[2])
      if file is not None:
        return read_bytes(file, 'workdir', 'save it again', LARGEST_SAVED), _headers(file.name)
    raise Refused(404)

  async def _answered(self, name: str, message, receive, send) -> None:
    """Sends lines of JSON: {'busy': text} while the action runs, then {'done': answer} or {'error': text}.

    Raises:
      Refused: there is no such action.
    """
    if name not in answers.ACTIONS:
      raise Refused(404)
    gone = asyncio.ensure_future(_gone(receive))
    headers = [(b'content-type', b'application/x-ndjson'), (b'cache-control', b'no-store')]
    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
    try:
      async with self._alone.get(name, self._turns):
        if not gone.done():
          async for line in _lines(name, self.fits, message):
            body = json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b'\n'
            await send({'type': 'http.response.body', 'body': body, 'more_body': True})
      await send({'type': 'http.response.body', 'body': b''})
    finally:
      gone.cancel()


async def _gone(receive) -> None:
  """Returns when the client has disconnected."""
  while (await receive())['type'] != 'http.disconnect':
    pass


async def _lines(name: str, fits: Fits, message):
  """The lines that are sent for an action."""
  try:
    made = await asyncio.to_thread(answers.ACTIONS[name], fits, message)
    if isinstance(made, Generator):
      while (step := await asyncio.to_thread(_step, made))[0]:
        yield {'busy': step[1]}
      made = step[1]
    yield {'done': made}
  except InputError as error:
    yield {'error': answers.sentence(error)}


def _step(steps: Generator) -> tuple[bool, Any]:
  """(True, what a generator yields next), or (False, what it returns)."""
  try:
    return True, next(steps)
  except StopIteration as done:
    return False, done.value


def _headers(name: str) -> list[tuple[bytes, bytes]]:
  kind = KINDS[name.rpartition('.')[2]].encode()
  return [(b'content-type', kind), (b'cache-control', b'no-cache')]


def application(fits: Fits, hosts: Sequence[str] = LOOPBACK) -> Guard:
  """The page of some fits as an ASGI application.

  Args:
    fits: that can be chosen.
    hosts: names of the server that requests may use, see `Guard`.
  """
  return Guard(Explorer(fits), hosts)


def names_of(host: str) -> tuple[str, ...]:
  """Names that requests may use for a server that listens on a host.

  Another site can make its name point to this server. So only our own names are allowed.
  """
  if host in LOOPBACK:
    return LOOPBACK
  machine = socket.gethostname().lower()
  every = (ANY_ADDRESS,) if host in ('0.0.0.0', '::', '') else ()
  return (host.lower(), *LOOPBACK, machine, f'{machine}.local', *every)


def listening(host: str, port: int) -> socket.socket:
  """A socket that listens.

  Raises:
    InputError: the address is not available.
  """
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  try:
    return socket.create_server((host, port), family=family, reuse_port=False)
  except (OSError, OverflowError) as error:
    said = getattr(error, 'strerror', None) or str(error)
    raise InputError('port', port, f'{host} cannot be listened on ({said})', 'give another --port or --host') from error


def serve(fits: Fits, host: str = '127.0.0.1', port: int = 7860, names: Sequence[str] = ()) -> None:
  """Serves until interrupted.

  Args:
    fits: that can be chosen.
    host, port: to listen on.
    names: further names that requests may use, such as a proxy's.

  Raises:
    InputError: uvicorn is not installed; as of `listening`.
  """
  connection = listening(host, port)
  try:
    import uvicorn
  except ImportError as error:
    raise InputError(
      'app', error.name, 'it is not installed', "install the extra: pip install '.[app]' in a clone of the repository"
    ) from error
  from panda_jax.app.connections import Connection

  app = application(fits, (*names_of(host), *map(str.lower, names)))
  shown = f'[{host}]' if ':' in host else host
  folders = ', '.join(map(str, fits.folders.values()))
  print(f'http://{shown}:{connection.getsockname()[1]}/ explores {folders}; Ctrl-C ends it', flush=True)
  config = uvicorn.Config(
    app,
    http=Connection,
    ws='none',
    backlog=BACKLOG,
    proxy_headers=False,
    server_header=False,
    log_level='error',  # any client can cause lower messages
    timeout_graceful_shutdown=1,  # open pages hold connections; they connect again after a restart
  )
  server = uvicorn.Server(config)
  with ThreadPoolExecutor(1) as pool:
    warmed = pool.submit(_warmed, fits, server)
    server.run(sockets=[connection])
  warmed.result()


def _warmed(fits: Fits, server) -> None:
  """Compiles what is needed while the server runs; open pages say that they wait for it.

  Raises:
    InputError: the first fit cannot be edited. The server then ends.
  """
  try:
    for _ in fits.prepared(fits.names[0]).warmer():
      if server.should_exit:
        return
  except InputError:
    server.should_exit = True
    raise
