"""What the server answers, and what it does not: requests as anybody could send them."""

import http.client
import json
import shutil
import subprocess
import sys

import pytest

from panda_jax.app.server import LOOPBACK, Guard, harmless, listening
from panda_jax.errors import InputError
from tests.app.servers import ROOT, Server
from tests.browser import need


def refusal(method='GET', path='/', hosts=LOOPBACK, **headers):
  headers = {'host': '127.0.0.1:7860'} | headers
  scope = {'type': 'http', 'method': method, 'path': path}
  return Guard(None, hosts).refusal(scope | {'headers': [(k.encode(), v.encode()) for k, v in headers.items()]})


def test_what_the_page_needs_is_let_through():
  for path in ('/', '/config', '/assets/a-B_1.js', '/gradio_api/queue/data', '/saved/0/x/strip.png'):
    assert refusal(path=path) is None
  assert refusal('HEAD') is None
  assert refusal('POST', '/gradio_api/queue/join', origin='http://127.0.0.1:7860') is None


REFUSED = [
  '/gradio_api/file=/etc/passwd',
  '/file=/etc/passwd',
  '/gradio_api/proxy=http://example.com',
  '/gradio_api/vibe-code',
  '/gradio_api/process_recording',
  '/gradio_api/component_server',
  '/gradio_api/runs',
  '/gradio_api/upload',
  '/monitoring',
  '/saved/0/../factors.npz',
  '/saved/x/strip.png',
  '/saved/-1/x/strip.png',
  '/assets/../../secret',
  '/docs',
]


@pytest.mark.parametrize('path', REFUSED)
def test_everything_else_is_not(path):
  assert [refusal(method, path) for method in ('GET', 'POST', 'PUT', 'DELETE')] == [404] * 4


def test_other_sites_are_refused():
  assert refusal(host='attacker.example') == 400
  assert refusal(host='attacker.example', hosts=None) is None
  assert refusal('POST', '/gradio_api/queue/join', origin='http://attacker.example') == 403
  assert refusal('POST', '/gradio_api/reset', origin='null') == 403
  assert Guard(None, None).refusal({'type': 'websocket', 'path': '/'}) == 404


def test_a_port_in_use_is_a_sentence():
  with listening('127.0.0.1', 0) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(InputError, match=f'port={port}: 127.0.0.1 cannot be listened on'):
      listening('127.0.0.1', port)


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    ((), 'workdir=None: not given; give --workdir=DIR'),
    (('--workdir=none',), 'workdir=none: there is no such folder'),
    (('--workdir=none', '--port=x'), 'port=x: it is not a whole number from 0 to 65535'),
    (('--workdir=none', '--workdir=nothing', '--generator=g'), 'generator=g: given for several fits; give one'),
    (('--workdir=none', '--shrae'), 'flag=--shrae: there is no such flag'),
  ],
)
def test_mistakes_cost_one_line(arguments, said, capsys):
  from panda_jax.app.__main__ import main

  assert main(list(arguments)) == 2
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


@pytest.mark.parametrize('data', [[FILE], [[FILE]], [{}], ['', [1]], FILE, 'x', None])
def test_values_are_numbers_and_texts(data):
  assert harmless(json.dumps({'data': ['', 1, 0.5, True, None], 'event_data': {'x': 0.5, 'y': 1}}).encode())
  assert not harmless(json.dumps({'data': data}).encode())
  assert not any(map(harmless, (None, b'', b'[]', b'x', b'[' * 100_000)))


@pytest.mark.slow
def test_no_path_or_address_is_taken_for_a_value(server):
  for path in ('/etc/passwd', str(server.workdir / 'factors.npz'), f'{server.url}config'):
    for data in (['fit', FILE | {'path': path}, 'choose parts'], ['', FILE | {'path': path}]):
      body = json.dumps({'data': data, 'fn_index': 0, 'session_hash': 'x'})
      status, _, _ = ask(server, 'POST', '/gradio_api/queue/join', body, **{'Content-Type': 'application/json'})
      assert status == 400
  status, _, _ = ask(server, 'POST', '/gradio_api/queue/join', b'[' + b'1,' * (13 << 20) + b'1]')
  assert status == 400


@pytest.mark.slow
def test_a_session_made_up_by_others_is_a_sentence(server):
  for text in ('{', '{"now": {}, "past": [], "sliding": false}'):
    done = event(server, 'panda-undo', ['fit', text, 'choose parts'])
    assert done['success'] is True
    assert 'it cannot be read' in json.dumps(done['output'])


@pytest.mark.slow
def test_without_gradio_it_says_what_to_install(fitted):
  code = (
    "import sys; sys.modules['gradio'] = None; from panda_jax.app.__main__ import main; sys.exit(main(sys.argv[1:]))"
  )
  command = [sys.executable, '-c', code, f'--workdir={fitted}', '--port=0']
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
  assert done.returncode == 2
  assert "pip install 'panda-jax[app]'" in done.stderr.splitlines()[-1]
