"""Exceptions that carry what a user needs: the argument, its value and the remedy."""


class InputError(ValueError):
  """Something the caller gave cannot be used.

  The text is one line: ``argument=value: what is wrong; what to do``.

  Attributes:
    shared: of several processes, all raise it at the same point; otherwise this one fails alone.
  """

  shared = False

  def __init__(self, argument: str, value: object, problem: str, remedy: str):
    super().__init__(argument, value, problem, remedy)
    self.argument, self.value, self.problem, self.remedy = argument, value, problem, remedy

  def __str__(self) -> str:
    text = f'{self.argument}={self.value}: {self.problem}; {self.remedy}'
    return ' '.join(text.split())


class NonFiniteError(InputError):
  """Features or an iterate contain NaN or infinity; the text says where."""


class Interrupted(Exception):
  """A signal asked to stop; what state there was has been handed to the checkpoint. `shared`: in all processes."""

  shared = False


class Lost(RuntimeError):
  """A sum over several processes broke off, as it does when one of them has ended; the text is JAX's own."""
