"""Limits on the memory and time that an untrusted file may take, and the text of refusals."""


class Refused(Exception):
  """The file is refused; `checkpoint.read` turns this into an InputError with the file's path.

  Attributes:
    problem: what is wrong with the file.
    remedy: what its owner can do.
  """

  def __init__(self, problem: str, remedy: str):
    super().__init__(problem, remedy)
    self.problem, self.remedy = problem, remedy


def damaged(detail: str) -> Refused:
  """The refusal of a file that contradicts itself or ends too soon."""
  return Refused(f'the file is truncated or corrupt ({detail})', 'download or copy it again')


class Unknown:
  """Stands for a global that is in no table, and for anything it would make; only its name is kept.

  Attributes:
    name: module and name, joined by a dot, as `shown`.
  """

  __slots__ = ('name',)

  def __init__(self, name: str):
    self.name = name

  def __repr__(self) -> str:
    return f'a {self.name}'


def not_allowed(unknown: Unknown) -> Refused:
  """The refusal of a file because of a global that it names."""
  return Refused(
    f'the global {unknown.name} is not allowed',
    'nothing that a file names is ever run; if the file is yours, save only its state_dict',
  )


LONGEST_KEY = 500  # characters of a name
NUMBERS = (int, float, bool)
MOST_LISTED = 8


def shown(text: object, length: int = 120) -> str:
  """A text of a file as an error message may contain it: one line, printable, short; for another object, its type.

  The text of a small object may be huge, as for a list that holds one long text many times.
  """
  if not isinstance(text, str):
    short = type(text) is list and len(text) < MOST_LISTED and all(type(item) in NUMBERS for item in text)
    plain = short or text is None or type(text) in (*NUMBERS, bytes, Unknown)
    text = str(text) if plain else f'a {type(text).__name__}'
  if len(text) > length:
    text = f'{text[: length - 3]}...'
  return text if text.isprintable() else text.encode('unicode_escape').decode('ascii')


def listed(texts: list[str]) -> str:
  """The first of many texts, each as `shown`, and the number of the others."""
  more = len(texts) - MOST_LISTED
  return ', '.join(shown(text, 160) for text in texts[:MOST_LISTED]) + (f', and {more} more' if more > 0 else '')


class Budget:
  """The memory and time that the objects of one file may take, apart from the file's own bytes.

  Each object is charged once, when it is made, with the most memory that CPython needs for it. One byte of a pickle can
  make an object of 200 bytes, so the size of the file alone is no limit.

  Args:
    size: of the file, in bytes.
  """

  OBJECTS = 32 << 20  # bytes for any file; a checkpoint with its optimiser's state needs less than 10 MB
  OPERATIONS = 2_000_000  # of the pickle machine, several seconds; checkpoints need fewer than 200 000

  def __init__(self, size: int):
    self._bytes = self.OBJECTS + size // 4
    self._operations = self.OPERATIONS
    # Limit on the sizes of all tensors together. In a normal file each tensor has its own bytes; a small surplus is for
    # shared and expanded ones, which take memory only when they are copied.
    self._elements = size + (16 << 20)
    self._copies = size + (1 << 20)  # of bytes of the file, where a view is not enough

  def step(self, cost: int) -> None:
    """Charges one operation that makes objects of `cost` bytes."""
    self._operations -= 1
    self._bytes -= cost
    if self._bytes < 0 or self._operations < 0:
      self._refuse()

  def spend(self, cost: int) -> None:
    """Charges objects of `cost` bytes."""
    self._bytes -= cost
    if self._bytes < 0:
      self._refuse()

  def claim(self, nbytes: int) -> None:
    """Charges a tensor of this size, whether or not it shares its bytes."""
    self._elements -= nbytes
    if self._elements < 0:
      raise Refused(
        'its tensors claim to be larger than the file', 'save it again with tensors that do not share or repeat storage'
      )

  def copy(self, nbytes: int) -> None:
    """Charges a copy of bytes of the file."""
    self._copies -= nbytes
    if self._copies < 0:
      self._refuse()

  def _refuse(self):
    raise Refused(
      'it describes far more objects than a checkpoint of its size has', 'save only its state_dict, and convert that'
    )
