"""A small parent process for each of several processes, which says in a sentence why its child ended.

When a process dies, JAX's runtime ends the others from a thread of its own, with a stack dump that no handler in
Python can prevent. The parent withholds that dump and says what happened and what to do. It passes signals on, and the
child ends if the parent does. It forks before anything large is imported.
"""

import os
import re
import signal
import sys
import threading

DUMP = re.compile(rb'F\d{4} [\d:.]+ ')  # the beginning of the dump of a fatal error
CHATTER = re.compile(rb'\[Gloo\] Rank |E\d{4} [\d:.]+ +\d+ coordination_service')  # replaced by the parent's sentence
GIST = 200  # characters that are shown of a dump, or of an error that is not ours
JOINED = b'\x1fjoined '  # prefix of the line in which the child sends its name
KEPT = b'\x1fkept '  # prefix of the line that says what is kept if the child ends


def tell_joined(text: str) -> None:
  """Sends the parent, if there is one, the name of this process: 'process 1 of 2'."""
  _tell(JOINED, text)


def tell_kept(text: str) -> None:
  """Sends the parent, if there is one, a sentence about what is kept."""
  _tell(KEPT, text)


def _tell(what: bytes, text: str) -> None:
  if os.environ.get('PANDA_JAX_PARENT') == str(os.getppid()):
    os.write(2, what + text.encode() + b'\n')


def supervise() -> None:
  """Returns in a child, which continues as the program; the parent stays in this function and ends with the child.

  The child has its own process group, so that each signal reaches it once, through the parent: a terminal sends
  Ctrl-C to a whole group. Signals wait until the child listens, see `signals.listen`.
  """
  numbers = signal.SIGINT, signal.SIGTERM
  signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
  alive, beat = os.pipe()
  said, say = os.pipe()
  parent = os.getpid()
  child = os.fork()
  if not child:
    os.setpgid(0, 0)
    os.close(beat)
    os.close(said)
    os.environ['PANDA_JAX_PARENT'] = str(parent)
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # the parent reports a failure itself
    for stream in (1, 2):
      os.dup2(say, stream)
    os.close(say)
    threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
    return
  os.close(alive)
  os.close(say)
  for number in numbers:
    signal.signal(number, lambda number, frame: os.kill(child, number))
  signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
  name, kept, dump, explained = _pass_on(said)
  _, status = os.waitpid(child, 0)
  code = os.waitstatus_to_exitcode(status)
  if code < 0 or dump:
    if not explained:
      print(f'error: {_sentence(name, code, dump, kept)}', file=sys.stderr, flush=True)
    code = 1 if dump or code == -signal.SIGABRT else 128 - code
  os._exit(code)


def _end_with_parent(alive: int) -> None:
  os.read(alive, 1)  # nothing is ever written: this returns when the parent has ended
  os._exit(1)


def _pass_on(said: int) -> tuple[str, str, bytes, bool]:
  """Copies lines to stderr until the child closes its end.

  Returns:
    The child's name, the sentence about what is kept, the withheld dump, and whether a message of the child already
    said what went wrong.
  """
  name, kept, dump, explained = 'this process', '', b'', False
  with os.fdopen(said, 'rb') as lines:
    for line in lines:
      if dump or DUMP.match(line):
        dump += line
      elif line.startswith(JOINED):
        name = line[len(JOINED) :].decode().strip()
      elif line.startswith(KEPT):
        kept = line[len(KEPT) :].decode().strip()
      elif line.startswith(b'error: '):
        if line.endswith(b'\n'):  # otherwise the runtime may have ended the child in the middle of the line
          explained = True
          os.write(2, line)
      elif not CHATTER.match(line):
        os.write(2, line)
  return name, kept, dump, explained


def _sentence(name: str, code: int, dump: bytes, kept: str = '') -> str:
  again = f'start all processes again: {kept}' if kept else 'start all processes again'
  if dump or code == -signal.SIGABRT:
    text = dump.decode(errors='replace')
    status = (text.partition('absl::Status: ')[2] or text).split('\n')[0]
    gist = f' ({status[:GIST]})' if status else ''
    return f'{name} lost the others: one of them ended or cannot be reached{gist}; see what it said, then {again}'
  if code == -signal.SIGKILL:
    return f'{name} was killed, as a machine does that runs out of memory; {again}'
  return f'{name} was ended by signal {-code} ({signal.Signals(-code).name}); {again}'
