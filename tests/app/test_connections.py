"""Unused connections are closed, so that a new client always gets one."""

import contextlib
import socket
import threading
import time

import pytest

from tests.browser import need, until

HEAD = b'GET / HTTP/1.1\r\nHost: x\r\n'
LARGE = 16 << 20


@pytest.fixture
def port(monkeypatch):
  """The port of a server that answers before it reads a body; the answer to /large is large."""
  need('uvicorn')
  import uvicorn

  from panda_jax.app import connections

  monkeypatch.setattr(connections, 'WAITING_SECONDS', 0.5)
  monkeypatch.setattr(connections, 'STALLED_SECONDS', 0.5)
  monkeypatch.setattr(connections, 'MOST', 5)

  async def app(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 404, 'headers': []})
    await send({'type': 'http.response.body', 'body': b'x' * (LARGE if scope['path'] == '/large' else 1)})

  taken = socket.create_server(('127.0.0.1', 0))
  config = uvicorn.Config(app, http=connections.Connection, ws='none', lifespan='off', log_level='error')
  server = uvicorn.Server(config)
  thread = threading.Thread(target=server.run, kwargs={'sockets': [taken]})
  thread.start()
  until(lambda: server.started)
  yield taken.getsockname()[1]
  server.should_exit = True
  thread.join()


def opened(port, *sent):
  connection = socket.create_connection(('127.0.0.1', port), timeout=60)
  for chunk in sent:
    connection.sendall(chunk)
  return connection


def ended(connection) -> bytes:
  """The bytes that arrive until the server closes the connection."""
  found = b''
  with connection:
    try:
      while chunk := connection.recv(1 << 16):
        found += chunk
    except ConnectionResetError:
      pass
  return found


@pytest.mark.parametrize('begun', [b'', HEAD, HEAD + b'\r\n' + HEAD], ids=['nothing', 'half', 'one and a half'])
def test_a_request_that_does_not_come_whole_ends_the_connection(port, begun):
  connection, stop = opened(port, begun), threading.Event()

  def dribble():
    while begun and not stop.wait(0.1):
      try:
        connection.sendall(b'a: b\r\n')
      except OSError:
        return

  thread = threading.Thread(target=dribble)
  thread.start()
  assert ended(connection).count(b'HTTP/1.1 404') == begun.count(b'\r\n\r\n')
  stop.set()
  thread.join()


def test_a_body_that_goes_on_after_its_answer_ends_the_connection(port):
  connection = opened(port, b'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n')
  assert connection.recv(1 << 16).startswith(b'HTTP/1.1 404')

  def dribbled():
    try:
      connection.sendall(b'x')
    except OSError:
      return True

  with connection:
    until(dribbled)


def test_an_answer_that_nobody_reads_ends_the_connection(port):
  connection = opened(port, b'GET /large HTTP/1.1\r\nHost: x\r\n\r\n')
  time.sleep(3)
  assert len(ended(connection)) < LARGE


def test_a_newcomer_gets_in_where_others_keep_the_server_waiting(port):
  idle = [opened(port) for _ in range(12)]
  with contextlib.ExitStack() as closed:
    for connection in idle:
      closed.enter_context(connection)
    # A new client also waits until its request has arrived. Its connection may be the one that is closed: it retries.
    answers = (ended(opened(port, HEAD + b'Connection: close\r\n\r\n')) for _ in range(5))
    assert b'HTTP/1.1 404' in next(answer for answer in answers if answer)
    for connection in idle:
      assert ended(connection) == b''


@pytest.mark.parametrize('after', [False, True])
def test_a_bad_chunk_is_no_traceback(port, capfd, after):
  begun, bad = b'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n', b'zzz\r\n\r\n'
  connection = opened(port, begun if after else begun + bad)
  assert connection.recv(1 << 16).startswith(b'HTTP/1.1 404' if after else b'HTTP/1.1 400')
  if after:
    connection.sendall(bad)
  ended(connection)
  assert 'Traceback' not in capfd.readouterr().err
