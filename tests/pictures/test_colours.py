"""Colours have their names in one file."""

import ast
import re
from pathlib import Path

import panda_jax
from panda_jax.pictures import colours


def literals(path: Path) -> list[str]:
  """The strings of a module that are colours and nothing else; those in style sheets are parts of longer ones."""
  strings = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
  return [text for text in strings if isinstance(text, str) and re.fullmatch(r'#([0-9a-fA-F]{3,4}){1,2}', text)]


def test_no_other_module_names_a_colour_by_its_numbers():
  own = Path(colours.__file__)
  assert literals(own)
  others = {path.name: literals(path) for path in Path(panda_jax.__file__).parent.rglob('*.py') if path != own}
  assert {name: found for name, found in others.items() if found} == {}
