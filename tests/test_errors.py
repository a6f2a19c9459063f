"""Errors of the operating system show its reason and a suitable remedy."""

import errno
import os

import pytest

from panda_jax.errors import MISPLACED, REMEDIES, InputError, refusal


@pytest.mark.parametrize('code', [*REMEDIES, *MISPLACED], ids=lambda code: errno.errorcode[code])
def test_an_error_is_told_with_its_own_text_and_a_remedy_of_its_own(code):
  said = refusal('workdir', 'w', 'it cannot be written', OSError(code, os.strerror(code), 'w/file'))
  assert str(said) == f'workdir=w: it cannot be written ({os.strerror(code)}); {(REMEDIES | MISPLACED)[code]}'
  assert ('space' in said.remedy) == (code == errno.ENOSPC)


def test_what_libraries_make_of_a_system_error_is_told_alike():
  code = errno.ENOSPC
  text = f'RESOURCE_EXHAUSTED: "a/0": Failed to write 8 bytes: {os.strerror(code)} [os_error_code=\'%s\'] [x]'
  wrapped = RuntimeError('could not save')
  wrapped.__cause__ = OSError(code, os.strerror(code))
  for error in (OSError(code, ''), ValueError(text % code), ValueError(text % 'ENOSPC'), wrapped):
    said = refusal('workdir', 'w', 'it cannot be written', error)
    assert (said.problem, said.remedy) == ('it cannot be written (No space left on device)', REMEDIES[code])


def test_a_wrong_path_and_an_unknown_reason_leave_the_remedy_to_the_caller():
  for error, reason in (
    (FileNotFoundError(errno.ENOENT, 'No such file or directory'), 'No such file or directory'),
    (OSError('image file is truncated'), 'image file is truncated'),
    (ValueError(), 'ValueError'),
  ):
    said = refusal('mask', 'm.png', 'it cannot be read', error, 'draw a PNG')
    assert (said.problem, said.remedy) == (f'it cannot be read ({reason})', 'draw a PNG')
  gone = refusal('workdir', 'w', 'no checkpoint', ValueError('Checkpoint directory does not exist: /w/2.'))
  assert 'removes' in gone.remedy


@pytest.mark.parametrize('length', range(20, 400, 7))
def test_no_item_more_is_not_told(length):
  """A single long item is shortened; the text does not say that 0 items are left out."""
  said = str(InputError('source', 'file.safetensors', 'it is wrong', 'give another', items=['x' * length]))
  assert ' 0 more' not in said
  assert 'xxx' in said
