"""A small parent of each of several processes, which puts into a sentence what ended its child.

When a process dies, JAX's runtime ends the others from a thread of its own, with a dump of its stack that no handler in
Python can prevent. The parent holds that dump back and says what happened and what to do. It passes signals on, and the
child ends with it. It is forked before anything large is imported.
"""

import os
import re
import signal
import sys
import threading

DUMP = re.compile(rb'F\d{4} [\d:.]+ ')  # how the dump of a fatal error begins
CHATTER = (b'[Gloo] Rank ',)  # of libraries, on every connection
GIST = 200  # characters of a dump that are shown
JOINED = b'\x1fjoined '  # begins the line with which the child tells its number


def tell_joined(text: str) -> None:
  """Tells the parent, if there is one, which process this is: 'process 1 of 2'."""
  if os.environ.get('PANDA_JAX_PARENT') == str(os.getppid()):
    os.write(2, JOINED + text.encode() + b'\n')


def supervise() -> None:
  """Returns in a child, which goes on as the program; the parent stays here and ends as the child does."""
  alive, beat = os.pipe()
  said, say = os.pipe()
  parent = os.getpid()
  child = os.fork()
  if not child:
    os.close(beat)
    os.close(said)
    os.environ['PANDA_JAX_PARENT'] = str(parent)
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # of a failure, the parent says what is of use
    for stream in (1, 2):
      os.dup2(say, stream)
    os.close(say)
    threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
    return
  os.close(alive)
  os.close(say)
  signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, number))
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the child too
  name, dump = _pass_on(said)
  _, status = os.waitpid(child, 0)
  code = os.waitstatus_to_exitcode(status)
  if code < 0:
    print(f'error: {_sentence(name, -code, dump)}', file=sys.stderr, flush=True)
    code = {signal.SIGABRT: 1}.get(-code, 128 - code)
  os._exit(code)


def _end_with_parent(alive: int) -> None:
  os.read(alive, 1)  # nothing is ever written: it returns when the parent has gone
  os._exit(1)


def _pass_on(said: int) -> tuple[str, bytes]:
  """Copies lines to stderr until the child has closed its end. Returns its name and the dump that was held back."""
  name, dump = 'this process', b''
  with os.fdopen(said, 'rb') as lines:
    for line in lines:
      if dump or DUMP.match(line):
        dump += line
      elif line.startswith(JOINED):
        name = line[len(JOINED) :].decode().strip()
      elif not line.startswith(CHATTER):
        os.write(2, line)
  return name, dump


def _sentence(name: str, number: int, dump: bytes) -> str:
  again = 'start all processes again, they go on from the last checkpoint'
  if number == signal.SIGABRT:
    status = dump.decode(errors='replace').partition('absl::Status: ')[2].split('\n')[0]
    gist = f' ({status[:GIST]})' if status else ''
    return f'{name} lost the others: one of them ended or cannot be reached{gist}; see what it said, then {again}'
  if number == signal.SIGKILL:
    return f'{name} was killed, as a machine does that runs out of memory; {again}'
  return f'{name} was ended by signal {number} ({signal.Signals(number).name}); {again}'
