"""Serves the page of the explorer, and nothing else: see guard.py for what is let through to it.

What a client can cost is bounded in connections.py (connections), guard.py (requests), messages.py (what is in them),
choices.py (sessions) and saves.py (files).
"""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from panda_jax.app.fits import Fits
from panda_jax.app.guard import ANY_ADDRESS, LOOPBACK, Guard
from panda_jax.app.photographs import Download
from panda_jax.app.saves import folder_of, readable
from panda_jax.errors import InputError

BACKLOG = 100  # connections that wait to be accepted


def prepared(workdir: Path) -> None:
  """Settings that Gradio reads when it is imported: silence, and where its own folders go."""
  os.environ |= {
    'GRADIO_ANALYTICS_ENABLED': 'False',
    'GRADIO_ANALYTICS_MAX_EVENTS': '100',  # it keeps a record of each, which nobody sees
    'HF_HUB_DISABLE_TELEMETRY': '1',
    'GRADIO_RUN_HISTORY': 'False',
    'GRADIO_TEMP_DIR': str(folder_of(workdir) / '.gradio'),
    'GRADIO_MCP_SERVER': 'False',
    'GRADIO_SSR_MODE': 'False',
  }


def application(fits: Fits, hosts: Sequence[str] = LOOPBACK) -> Guard:
  """The page of some fits as an ASGI application.

  Args:
    fits: that can be chosen.
    hosts: names that it may be called by, see `Guard`.

  Raises:
    InputError: Gradio is not installed.
  """
  workdirs = list(fits.folders.values())
  prepared(workdirs[0])
  try:
    import fastapi
    import gradio as gr
  except ImportError as error:
    raise InputError(
      'app', error.name, 'it is not installed', "install the extra: pip install '.[app]' in a clone of the repository"
    ) from error
  from panda_jax.app import page

  app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

  @app.get('/saved/{fit}/{name}/{file}')
  def saved(fit: int, name: str, file: str):
    path = readable(workdirs[fit], name, file) if fit < len(workdirs) else None
    if path is None:
      raise fastapi.HTTPException(404)
    return fastapi.responses.FileResponse(path)

  @app.get('/photographs/{key}')
  def photograph(key: str):
    found = fits.shelf.get(key)
    if not isinstance(found, Download):
      raise fastapi.HTTPException(404)
    headers = {'content-disposition': f'attachment; filename="{found.name}"', 'cache-control': 'no-store'}
    return fastapi.Response(found.content, media_type='image/png', headers=headers)

  fonts = ['ui-sans-serif', 'system-ui', 'sans-serif']
  blocks = page.build(fits)
  app = gr.mount_gradio_app(
    app,
    blocks,
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
  return Guard(app, hosts, {number: len(control.inputs) for number, control in blocks.fns.items()})


def names_of(host: str) -> tuple[str, ...]:
  """Names that a server which listens on a host may be called by.

  A page of another site can reach it by a name of its own that leads here; so names are those that are ours.
  """
  if host in LOOPBACK:
    return LOOPBACK
  machine = socket.gethostname().lower()
  every = (ANY_ADDRESS,) if host in ('0.0.0.0', '::', '') else ()
  return (host.lower(), *LOOPBACK, machine, f'{machine}.local', *every)


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


def serve(fits: Fits, host: str = '127.0.0.1', port: int = 7860, names: Sequence[str] = ()) -> None:
  """Serves until interrupted.

  Args:
    fits: that can be chosen.
    host, port: to listen on.
    names: others that it may be called by than those of the host, such as that of a proxy.

  Raises:
    InputError: as of `application` and `listening`.
  """
  connection = listening(host, port)
  app = application(fits, (*names_of(host), *map(str.lower, names)))
  import uvicorn

  from panda_jax.app.connections import Connection

  fits.controls(fits.names[0]).engine.warm()
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
    log_level='error',  # others are of requests that anybody can send
    timeout_graceful_shutdown=1,  # open pages hold connections; they find the server again when it is back
  )
  uvicorn.Server(config).run(sockets=[connection])
