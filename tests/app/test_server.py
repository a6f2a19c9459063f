"""What the server answers, and what it does not: requests as anybody could send them."""

import http.client
import json
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
  need('gradio')
  workdir = tmp_path_factory.mktemp('served') / 'fit'
  shutil.copytree(fitted, workdir)
  (workdir / 'app').mkdir()
  running = Server(workdir)
  running.start()
  yield running
  running.stop()


def ask(server, method, path, body=None, **headers):
  connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=30)
  try:
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()
  finally:
    connection.close()


def event(server, wanted, data):
  """What comes of an event whose inputs are the fit, a hidden memory and more, by the name of its component."""
  config = json.loads(ask(server, 'GET', '/config')[2])
  ids = {c['props'].get('elem_id'): c['id'] for c in config['components']}
  which = next(d['id'] for d in config['dependencies'] if any(t[0] == ids[wanted] for t in d['targets']))
  session = 'abc123xyz'
  body = json.dumps({'data': data, 'fn_index': which, 'session_hash': session, 'event_data': None, 'trigger_id': None})
  status, _, said = ask(server, 'POST', '/gradio_api/queue/join', body, **{'Content-Type': 'application/json'})
  assert status == 200, said
  lines = ask(server, 'GET', f'/gradio_api/queue/data?session_hash={session}')[2].decode().splitlines()
  messages = [json.loads(line.removeprefix('data: ')) for line in lines if line.startswith('data: {')]
  return next(m for m in messages if m['msg'] == 'process_completed')


@pytest.mark.slow
def test_the_page_names_no_other_host_and_is_told_to_load_nothing(server):
  status, headers, body = ask(server, 'GET', '/')
  assert status == 200
  assert "default-src 'self'" in headers['content-security-policy']
  config = json.loads(ask(server, 'GET', '/config')[2])
  assert config['analytics_enabled'] is False
  assert not config['stylesheets']
  assert b'fonts.googleapis' not in body


@pytest.mark.slow
def test_no_file_can_be_read(server):
  for path in (
    '/photographs/none',
    '/gradio_api/file=/etc/passwd',
    f'/gradio_api/file={server.workdir}/factors.npz',
    '/saved/0/x/edit.json',
    '/saved/1/x/edit.json',
    '/saved/99999999999999999999/x/edit.json',
  ):
    assert ask(server, 'GET', path)[0] == 404
  for path in ('/saved/0/..%2f..%2ffit/factors.npz', '/static/..%2f..%2f..%2fetc/passwd', '/assets/%2e%2e/%2e%2e/x'):
    assert ask(server, 'GET', path)[0] in (403, 404)


FILE = {'path': '/etc/passwd', 'meta': {'_type': 'gradio.FileData'}, 'orig_name': 'x'}


@pytest.mark.slow
def test_no_path_or_address_is_taken_for_a_value(server):
  for path in ('/etc/passwd', str(server.workdir / 'factors.npz'), f'{server.url}config'):
    for data in (['fit', FILE | {'path': path}, 'choose parts'], ['', FILE | {'path': path}]):
      body = json.dumps({'data': data, 'fn_index': 0, 'session_hash': 'x'})
      status, _, _ = ask(server, 'POST', '/gradio_api/queue/join', body, **{'Content-Type': 'application/json'})
      assert status == 400
  large = b'[' + b'1,' * (13 << 20) + b'1]'
  assert ask(server, 'POST', '/gradio_api/queue/join', large, **{'Content-Type': 'application/json'})[0] == 413


@pytest.mark.slow
def test_a_session_made_up_by_others_is_a_sentence(server):
  for text in ('{', '{"now": {}, "past": [], "sliding": false}'):
    done = event(server, 'panda-undo', ['fit', text, 'choose parts'])
    assert done['success'] is True
    assert 'it cannot be read' in json.dumps(done['output'])


HEAD = 'Host: 127.0.0.1:{port}\r\n'
JOIN = '/gradio_api/queue/join'
CHUNKED = 'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n'
HOSTILE = [  # requests, and the statuses that may come of them
  ('GET / HTTP/1.1\r\nHost: [\r\n\r\n', {400}),
  ('GET / HTTP/1.1\r\nHost: attacker.example\r\n\r\n', {400}),
  (f'GET /gradio_api/queue/data?session_hash=nobody HTTP/1.1\r\n{HEAD}\r\n', {404}),
  (f'GET /gradio_api/queue/data HTTP/1.1\r\n{HEAD}\r\n', {404}),
  (f'GET /assets/{"a" * 5000} HTTP/1.1\r\n{HEAD}\r\n', {404}),
  (f'GET /static/img HTTP/1.1\r\n{HEAD}\r\n', {403, 404}),
  (f'GET /saved/0/x/strip.png HTTP/1.1\r\n{HEAD}Range: bytes=9-0,x\r\n\r\n', {404}),
  (f'GET / HTTP/1.1\r\n{HEAD}Origin: http://attacker.example\r\n\r\n', {403}),
  (f'GET / HTTP/1.1\r\n{HEAD}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n', {200, 400}),
  (f'POST {JOIN} HTTP/1.1\r\n{HEAD}{CHUNKED}', {400}),
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
def test_one_page_after_the_other_over_one_connection(server):
  config = json.loads(ask(server, 'GET', '/config')[2])
  parts = next(c['id'] for c in config['components'] if c['props'].get('elem_id') == 'panda-part')
  control = next(d['id'] for d in config['dependencies'] if d['targets'][0][0] == parts)
  connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=60)
  for part in range(4):
    body = {'data': ['fit', '', 'choose parts', part], 'fn_index': control, 'session_hash': 'same'}
    connection.request('POST', JOIN, json.dumps(body), {'Content-Type': 'application/json'})
    assert connection.getresponse().read().startswith(b'{"event_id"')
    connection.request('GET', '/gradio_api/queue/data?session_hash=same')
    assert f'part {part}'.encode() in connection.getresponse().read()
  connection.close()
  assert server.said() == ''


@pytest.mark.slow
@pytest.mark.parametrize('change', [{'fn_index': 99999}, {'fn_index': -1}, {'data': ['fit']}, {'session_hash': ''}])
def test_a_message_that_no_control_sends_is_refused(server, change):
  body = {'data': ['fit', '', 'choose parts'], 'fn_index': 0, 'session_hash': 'x'} | change
  assert ask(server, 'POST', JOIN, json.dumps(body), **{'Content-Type': 'application/json'})[0] == 400
  assert server.said() == ''


def made_up(**changes):
  """A session of one term."""
  choice = {'seeds': [0], 'terms': [{'part': [1], 'appearance': 2, 'alpha': 3.0} | changes], 'refined': False}
  return json.dumps({'now': choice, 'past': [], 'sliding': False})


GONE = made_up().replace('"refined"', '"photograph": "gone", "refined"')
CONTROLS = [  # what is sent to a control, and what is said of it
  ('part', [made_up(part=[0] * 10**6), 'choose parts', 1], 'it is no text, or too long a one'),
  ('part', [made_up(part=[0] * 10**4), 'choose parts', 1], 'it does not suit this fit'),
  ('part', ['', 'choose parts', 99], 'there is no such one'),
  ('part', ['', 'choose parts', 'x' * 1000], 'there is no such one'),
  ('appearance', ['', 'choose parts', True], 'there is no such one'),
  ('seeds', ['', 'choose parts', '0-9999999,' * 15], 'more than 9 of them'),
  ('alpha', [made_up(), 3e38], 'it is beyond 1e+30'),
  ('alpha', [made_up(), 'x'], 'it is not a finite number'),
  ('alpha', [made_up(alpha=2.9e38), 1.0], 'it does not suit this fit'),
  ('undo', ['', 'nonsense'], 'nothing to undo'),
  ('save', [made_up(), 3], 'it cannot be the name of a folder'),
  ('save', [GONE, 'mine'], 'give the file again'),
  ('part', [GONE, 'choose parts', 1], 'give the file again'),
  ('alpha', [GONE, 1.0], 'give the file again'),
  ('download', [GONE], 'give the file again'),
  ('download', [made_up()], 'what is shown is not one photograph'),
  ('invert', [made_up(), 'choose parts', 'gone', '', ''], 'give the file again'),
  ('invert', [GONE, 'choose parts', None, 3, True], 'give the file again'),
  ('points', ['gone', 'x' * 1000, ''], 'give the file again'),
  ('clear', [7], 'give the file again'),
]


@pytest.mark.slow
@pytest.mark.parametrize(('control', 'values', 'said'), CONTROLS, ids=range(len(CONTROLS)))
def test_a_value_that_no_control_has_is_a_sentence(server, control, values, said):
  for fit, told in (('fit', said), ('../..', 'it is not one of those')):
    done = event(server, f'panda-{control}', [fit, *values])
    assert done['success'] is True
    assert told in json.dumps(done['output'])
  assert server.said() == ''


@pytest.mark.slow
def test_without_gradio_it_says_what_to_install(fitted):
  code = (
    "import sys; sys.modules['gradio'] = None; from panda_jax.commands.program import main; "
    "sys.exit(main(['panda-jax', 'app', *sys.argv[1:]]))"
  )
  command = [sys.executable, '-c', code, f'--workdir={fitted}', '--port=0']
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
  assert done.returncode == 2
  assert "pip install '.[app]'" in done.stderr.splitlines()[-1]
