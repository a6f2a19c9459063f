"""Requests that the server answers, and requests that it refuses; any client can send any request."""

import http.client
import json
import re
import shutil
import socket
import subprocess
import sys

import pytest

from panda_jax.app.guard import ANY_ADDRESS, LOOPBACK
from panda_jax.app.server import listening, names_of
from panda_jax.commands import program
from panda_jax.errors import InputError
from tests.app.servers import ROOT, Server
from tests.browser import need
from tests.commands.calls import call


def test_names_that_a_server_goes_by():
  for host in LOOPBACK:
    assert names_of(host) == LOOPBACK
  assert ANY_ADDRESS in names_of('0.0.0.0')
  assert 'cats.example' in names_of('Cats.example')
  assert ANY_ADDRESS not in names_of('10.0.0.7')
  _, options, _ = program.parse(['run.py', 'app', '--workdir=x', '--name=a.example', '--name=b.example'])
  assert options.name == ['a.example', 'b.example']


def test_a_port_in_use_is_a_sentence():
  with listening('127.0.0.1', 0) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(InputError, match=f'port={port}: 127.0.0.1 cannot be listened on'):
      listening('127.0.0.1', port)


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    ((), 'workdir: not given; give --workdir=DIR'),
    (('--workdir=none',), 'workdir=none: there is no such folder'),
    (('--workdir=none', '--port=x'), 'port=x: it is not a whole number from 0 to 65535'),
    (('--workdir=none', '--workdir=nothing', '--generator=g'), 'generator=g: given for several fits; give one'),
    (('--workdir=none', '--shrae'), 'flag=--shrae: app has no such flag'),
  ],
)
def test_mistakes_cost_one_line(arguments, said, capsys):
  assert call('app', *arguments) == 2
  printed = capsys.readouterr().err
  assert printed.startswith('error: ')
  assert said in printed
  assert printed.count('\n') == 1


@pytest.fixture(scope='module')
def server(fitted, tmp_path_factory):
  need('uvicorn')
  workdir = tmp_path_factory.mktemp('served') / 'fit'
  shutil.copytree(fitted, workdir)
  running = Server(workdir)
  running.start()
  yield running
  running.stop()


def ask(server, method, path, body=None, **headers):
  connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=60)
  try:
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()
  finally:
    connection.close()


JSON = {'Content-Type': 'application/json'}


def do(server, action, **values):
  """The last line of an answer."""
  status, headers, said = ask(server, 'POST', f'/do/{action}', json.dumps({'fit': 'fit'} | values), **JSON)
  assert (status, headers['content-type']) == (200, 'application/x-ndjson')
  return json.loads(said.splitlines()[-1])


@pytest.mark.slow
def test_the_page_names_no_other_host_and_everything_that_it_names_is_there(server):
  status, headers, body = ask(server, 'GET', '/')
  assert status == 200
  assert "default-src 'none'" in headers['content-security-policy']
  named = set(re.findall(rb'(?:src|href)="([^"#]+)"', body))
  found = set()
  while named - found:
    path = (named - found).pop()
    assert b'//' not in path
    status, _, content = ask(server, 'GET', f'/{path.decode()}')
    assert status == 200, path
    found.add(path)
    named |= {b'static/' + name for name in re.findall(rb"(?:from|import) '\./([^']+)'", content)}
  assert {b'static/pages.css', b'static/explorer.css', b'static/stage.js', b'favicon.ico'} <= found
  assert ask(server, 'HEAD', '/')[2] == b''


@pytest.mark.slow
def test_no_other_file_can_be_read(server):
  for path in (
    '/photographs/none',
    '/static/index.html',
    '/static/none.js',
    '/saved/0/x/edit.json',
    '/saved/1/x/edit.json',
    '/saved/99999999999999999999/x/edit.json',
    '/saved/0/..%2f..%2ffit/factors.npz',
    '/static/..%2f..%2f..%2fetc/passwd',
    '/static/%2e%2e/%2e%2e/x',
  ):
    assert ask(server, 'GET', path)[0] == 404


@pytest.mark.slow
def test_a_page_is_told_what_it_waits_for(server):
  said = ask(server, 'POST', '/do/fit', '{}', **JSON)[2]
  busy, _, done = map(json.loads, said.splitlines())
  assert busy == {'busy': 'Loading the generator'}
  assert done['done']['fit'] == 'fit'


@pytest.mark.slow
def test_what_was_saved_can_be_fetched(server):
  choice = {'seeds': [3], 'terms': [{'part': [1], 'appearance': 2, 'alpha': 3.0}]}
  done = do(server, 'saved', choice=choice, name='mine')['done']
  for file in done['files']:
    status, headers, content = ask(server, 'GET', f'/{file["address"]}')
    assert (status, content) == (200, (server.workdir / 'app' / 'mine' / file['name']).read_bytes())
    assert headers['content-type'] in ('image/png', 'image/gif', 'application/json')


@pytest.mark.slow
def test_what_a_request_may_not_be(server):
  assert ask(server, 'POST', '/do/nothing', '{}', **JSON)[0] == 404
  assert ask(server, 'POST', '/do/pictures', '{}')[0] == 415
  large = b'{"a": "' + b'1' * (25 << 20) + b'"}'
  assert ask(server, 'POST', '/do/pictures', large, **JSON)[0] == 413
  assert ask(server, 'POST', '/do/pictures', b'[]', **JSON)[0] == 400
  assert server.said() == ''


HEAD = 'Host: 127.0.0.1:{port}\r\n'
CHUNKED = 'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n'
HOSTILE = [  # request, allowed statuses
  ('GET / HTTP/1.1\r\nHost: [\r\n\r\n', {400}),
  ('GET / HTTP/1.1\r\nHost: attacker.example\r\n\r\n', {400}),
  (f'GET /static/{"a" * 5000} HTTP/1.1\r\n{HEAD}\r\n', {404}),
  (f'GET /static/img HTTP/1.1\r\n{HEAD}\r\n', {404}),
  (f'GET /saved/0/x/strip.png HTTP/1.1\r\n{HEAD}Range: bytes=9-0,x\r\n\r\n', {404}),
  (f'GET / HTTP/1.1\r\n{HEAD}Origin: http://attacker.example\r\n\r\n', {403}),
  (f'GET / HTTP/1.1\r\n{HEAD}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n', {200, 400}),
  (f'POST /do/pictures HTTP/1.1\r\n{HEAD}{CHUNKED}', {400}),
  (f'POST /x HTTP/1.1\r\n{HEAD}{CHUNKED}', {400, 404}),
  (f'BREW / HTTP/1.1\r\n{HEAD}\r\n', {404}),
  ('\x16\x03\x01\x02\x00\x01\r\n\r\n', {400}),
  ('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', {400}),
]


@pytest.mark.slow
@pytest.mark.parametrize(('sent', 'statuses'), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_request_is_refused(server, sent, statuses):
  with socket.create_connection(('127.0.0.1', server.port), timeout=60) as connection:
    connection.sendall(sent.replace('{port}', str(server.port)).encode('latin-1'))
    assert int(connection.recv(1000).split()[1]) in statuses
  assert server.said() == ''


@pytest.mark.slow
def test_one_request_after_the_other_over_one_connection(server):
  connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=60)
  for seed in range(4):
    body = {'fit': 'fit', 'choice': {'seeds': [seed]}, 'views': ['original']}
    connection.request('POST', '/do/pictures', json.dumps(body), JSON)
    assert connection.getresponse().read().startswith(b'{"done": {"original": ["data:image/png;base64,')
  connection.close()
  assert server.said() == ''


TERM = {'part': [1], 'appearance': 2, 'alpha': 3.0}
WRONG = [  # values for an action, error sentence
  ('pictures', {'choice': {'terms': [TERM | {'part': [0] * 10**4}]}, 'views': ['edited']}, 'part: there are 4 at most'),
  ('pictures', {'choice': {'terms': [TERM | {'alpha': 2.9e38}]}, 'views': ['edited']}, 'not one number'),
  ('pictures', {'choice': {'photograph': 'gone'}, 'views': ['edited']}, 'give the file again'),
  ('removal', {'choice': {}, 'place': TERM | {'part': [9]}}, 'there is no such part'),
  ('inversion', {'key': 'gone'}, 'give the file again'),
  ('saved', {'choice': {'terms': [TERM]}, 'name': '../x'}, 'cannot be the name'),
]


@pytest.mark.slow
@pytest.mark.parametrize(('action', 'values', 'said'), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_a_sentence(server, action, values, said):
  assert said in do(server, action, **values)['error']
  assert 'it is not one of those' in do(server, action, **values, fit='../..')['error']
  assert server.said() == ''


@pytest.mark.slow
def test_a_client_that_goes_away_costs_nothing_more(server):
  body = json.dumps({'fit': 'fit', 'choice': {'seeds': [*range(9)]}, 'views': ['original']}).encode()
  request = f'POST /do/pictures HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n'
  for _ in range(20):
    with socket.create_connection(('127.0.0.1', server.port), timeout=60) as connection:
      connection.sendall(request.replace('{port}', str(server.port)).encode() + body)
  assert 'done' in do(server, 'pictures', choice={'seeds': [3]}, views=['original'])
  assert server.said() == ''


@pytest.mark.slow
def test_without_uvicorn_it_says_what_to_install(fitted):
  code = (
    "import sys; sys.modules['uvicorn'] = None; from panda_jax.commands.program import main; "
    "sys.exit(main(['panda-jax', 'app', *sys.argv[1:]]))"
  )
  command = [sys.executable, '-c', code, f'--workdir={fitted}', '--port=0']
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
  assert done.returncode == 2
  assert "pip install '.[app]'" in done.stderr.splitlines()[-1]
