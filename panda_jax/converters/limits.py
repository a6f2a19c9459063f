"""What a file that nobody vouches for may cost, and how its refusal is worded."""


class Refused(Exception):
  """The file is not read any further; `checkpoint.read` turns this into an InputError with the file's path.

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
  """What a file names and no table has, and whatever that would make: the name is kept and nothing else.

  Attributes:
    name: module and name with a dot between, as `shown`.
  """

  __slots__ = ('name',)

  def __init__(self, name: str):
    self.name = name

  def __repr__(self) -> str:
    return f'a {self.name}'


def not_allowed(unknown: Unknown) -> Refused:
  """The refusal of a file for a global that it names."""
  return Refused(
    f'the global {unknown.name} is not allowed',
    'nothing that a file names is ever run; if the file is yours, save only its state_dict',
  )


LONGEST_KEY = 500  # characters of a name
NUMBERS = (int, float, bool)
MOST_LISTED = 8


def shown(text: object, length: int = 120) -> str:
  """What a file says as an error message may carry it: on one line, printable, not long; of an object its type.

  The text of a small object may be a giant, as of a list that holds one long text many times.
  """
  if not isinstance(text, str):
    short = type(text) is list and len(text) < MOST_LISTED and all(type(item) in NUMBERS for item in text)
    plain = short or text is None or type(text) in (*NUMBERS, bytes, Unknown)
    text = str(text) if plain else f'a {type(text).__name__}'
  if len(text) > length:
    text = f'{text[: length - 3]}...'
  return text if text.isprintable() else text.encode('unicode_escape').decode('ascii')


def listed(texts: list[str]) -> str:
  """The first of many texts, each as `shown`, and how many more there are."""
  more = len(texts) - MOST_LISTED
  return ', '.join(shown(text, 160) for text in texts[:MOST_LISTED]) + (f', and {more} more' if more > 0 else '')


class Budget:
  """How much memory and time the objects of one file may take, apart from the file's own bytes.

  Objects are charged for when they are made, by what CPython needs for them at most, and never credited back. One
  byte of a pickle can make an object of 200, so the file's size alone says nothing.

  Args:
    size: of the file, in bytes.
  """

  OBJECTS = 32 << 20  # bytes for any file; a checkpoint with its optimiser's state needs less than 10 MB
  OPERATIONS = 2_000_000  # of the pickle machine, some seconds; checkpoints need less than 200 000

  def __init__(self, size: int):
    self._bytes = self.OBJECTS + size // 4
    self._operations = self.OPERATIONS
    # What tensors may claim together. Each takes up its own bytes of a well-made file; a little is left for shared
    # and expanded ones, which cost nothing here but as much as they claim when they are copied.
    self._elements = size + (16 << 20)
    self._copies = size + (1 << 20)  # of bytes of the file, where a view of them will not do

  def step(self, cost: int) -> None:
    """One operation that makes objects of `cost` bytes."""
    self._operations -= 1
    self._bytes -= cost
    if self._bytes < 0 or self._operations < 0:
      self._refuse()

  def spend(self, cost: int) -> None:
    """Objects of `cost` bytes."""
    self._bytes -= cost
    if self._bytes < 0:
      self._refuse()

  def claim(self, nbytes: int) -> None:
    """A tensor of so many bytes, whether or not it shares them."""
    self._elements -= nbytes
    if self._elements < 0:
      raise Refused(
        'its tensors claim to be larger than the file', 'save it again with tensors that do not share or repeat storage'
      )

  def copy(self, nbytes: int) -> None:
    """A copy of so many bytes of the file."""
    self._copies -= nbytes
    if self._copies < 0:
      self._refuse()

  def _refuse(self):
    raise Refused(
      'it describes far more objects than a checkpoint of its size has', 'save only its state_dict, and convert that'
    )
