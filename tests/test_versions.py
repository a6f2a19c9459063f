"""The range of versions: .ci/run tests its lower end."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def versions(lines, between: str) -> dict[str, str]:
  found = (re.fullmatch(rf'([\w-]+){between}([\w.]+)', line.strip()) for line in lines)
  return {match[1]: match[2] for match in found if match}


def test_lower_bounds_are_the_versions_that_are_tested():
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  oldest = versions((ROOT / '.ci' / 'oldest.txt').read_text().splitlines(), '==')
  bounds = versions(project['dependencies'], '>=')
  assert len(bounds) == len(project['dependencies'])
  through = {'jaxlib', 'pyparsing'}  # these come with jax and matplotlib
  assert bounds == {name: version for name, version in oldest.items() if name not in through}
  assert oldest['jaxlib'] == oldest['jax']
