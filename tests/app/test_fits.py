"""The fits to choose from: their names, and folders that are not fits."""

import shutil

import numpy as np
import pytest

from panda_jax.app.fits import Fits
from panda_jax.errors import InputError
from panda_jax.solver.factors import Factors
from panda_jax.workdir.finished_fit import FinishedFit, open_workdir


@pytest.fixture(scope='module')
def workdirs(fitted, tmp_path_factory):
  """Three fits, two in folders of the same name; the last has two parts and fewer appearances."""
  folders = [tmp_path_factory.mktemp('fits') / name for name in ('a/fit', 'b/fit', 'b/few')]
  for folder in folders:
    shutil.copytree(fitted, folder)
  factors = Factors.load(folders[-1] / 'factors.npz')
  parts = np.ascontiguousarray(factors.parts[:, [3, 1]])
  Factors(factors.appearances[:, :3], parts, factors.grid, factors.provenance).save(folders[-1] / 'factors.npz')
  return folders


def test_folders_name_fits_and_paths_those_that_share_a_name(workdirs):
  fits = Fits([open_workdir(folder) for folder in workdirs])
  assert fits.names == [str(workdirs[0]), str(workdirs[1]), 'few']
  assert [fits.number(name) for name in fits.names] == [0, 1, 2]
  few = fits.engine('few')
  assert few is fits.engine('few')
  assert (few.parts, few.appearances) == ([0, 1], [0, 1, 2])
  assert few.photographs.shelf is fits.engine(fits.names[0]).photographs.shelf
  for name in ('fit', 'none', None, 3):
    with pytest.raises(InputError, match='it is not one of those that this server was started with'):
      fits.engine(name)
  with pytest.raises(InputError, match='it is given twice'):
    Fits([open_workdir(workdirs[0]), open_workdir(workdirs[0] / '..' / 'fit')])


def test_generators_are_loaded_when_a_fit_is_chosen(workdirs):
  opened = [open_workdir(workdirs[0]), open_workdir(workdirs[2])]
  broken = FinishedFit(opened[1].factors, folder=workdirs[2])
  broken._made = {}
  fits = Fits([opened[0], broken])
  with pytest.raises(InputError, match='generator: not given'):
    fits.engine('few')
