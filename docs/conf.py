"""Sphinx's configuration of the documentation site: `make docs` builds it into docs/_build."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / '_ext')]

import panda_jax  # noqa: E402

project = 'panda-jax'
author = 'the panda-jax authors'
release = version = panda_jax.__version__
copyright = f'{author}; Apache-2.0'

extensions = [
  'sphinx.ext.autodoc',
  'sphinx.ext.napoleon',
  'myst_nb',
  'sphinx_copybutton',
  'sphinx_design',
  'from_code',
]
exclude_patterns = ['_build', 'README.md', 'photographs/README.md']

html_theme = 'furo'
html_title = 'panda-jax'
html_static_path = ['_static']
html_css_files = ['site.css']
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = 'mathml'  # in browsers since 2023, without a script from elsewhere

myst_enable_extensions = ['attrs_block', 'colon_fence', 'deflist', 'dollarmath', 'fieldlist']
myst_heading_anchors = 3
nb_execution_mode = 'force'
nb_execution_timeout = 170  # seconds, of a build that has three minutes
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True

highlight_language = 'command'
smartquotes = False  # flags begin with two hyphens
default_role = 'py:obj'  # what docstrings put between single backquotes
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
autodoc_typehints = 'none'  # docstrings say what arguments are, with their shapes
autodoc_class_signature = 'mixed'
autodoc_default_options = {'members': True, 'exclude-members': 'tree_flatten_with_keys, tree_unflatten, overload'}
napoleon_use_param = False  # or what is said of several arguments at once would stand there as often
napoleon_use_rtype = False
napoleon_custom_sections = [('Attributes', 'params_style')]
copybutton_exclude = '.linenos, .gp'
