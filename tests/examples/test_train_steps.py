"""The steps of the trainer against simple implementations of their losses."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax
from jax.test_util import check_grads

from examples.train_generator import steps
from examples.train_generator.augment import adjusted, augmented
from examples.train_generator.configs import cats64_cpu, cats64_gpu, smoke
from examples.train_generator.discriminator import Discriminator, conv_down, with_spread
from panda_jax.errors import InputError
from panda_jax.features.sharding import data_mesh
from panda_jax.generators.disk import save_generator
from panda_jax.generators.layers import LAYOUT
from panda_jax.generators.stylegan2 import StyleGAN2
from panda_jax.runtime.compatibility import enable_x64
from tests.examples.pictures import made
from tests.simulated import run_with_devices


def test_strided_convolution():
  with enable_x64(True):
    x = jax.random.normal(jax.random.key(0), (2, 9, 7, 3), jnp.float64)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 4), jnp.float64)
    plain = lax.conv_general_dilated(x, kernel, (2, 2), 'VALID', dimension_numbers=LAYOUT)
    np.testing.assert_allclose(conv_down(x, kernel), plain, atol=1e-12)
    check_grads(jax.jit(conv_down), (x, kernel), 2)


def test_spread_is_that_of_each_group():
  x = np.array(jax.random.normal(jax.random.key(0), (8, 4, 4, 3)))
  x[4:] = x[4]  # four times the same image
  out = np.asarray(with_spread(jnp.asarray(x)))
  np.testing.assert_array_equal(out[..., :3], x)
  spread = np.sqrt(x[:4].var(axis=0) + 1e-8).mean()
  np.testing.assert_allclose(out[:4, ..., 3], spread, rtol=1e-5)
  np.testing.assert_allclose(out[4:, ..., 3], 1e-4, rtol=1e-3)  # the small number under the root


def test_discriminator_sees_images_apart_from_their_group():
  model = Discriminator((4, 6, 8), 3, nnx.Rngs(0))
  x = jax.random.normal(jax.random.key(0), (8, 16, 16, 3))
  graph, params = nnx.split(model)
  judged = jax.jit(lambda x: nnx.merge(graph, params)(x))
  logits = judged(x)
  assert logits.shape == (8,)
  changed = judged(x.at[5].add(1.0))
  np.testing.assert_allclose(changed[:4], logits[:4], atol=1e-6)
  assert (np.abs(changed[4:] - logits[4:]) > 1e-6).all()  # the same group: its spread changed


def test_augmentation():
  images = jax.random.uniform(jax.random.key(0), (64, 16, 16, 3), minval=-1)
  run = jax.jit(augmented)
  np.testing.assert_allclose(run(images, jax.random.key(1), 0.0), images, atol=1e-6)
  out = np.asarray(run(images, jax.random.key(1), 0.5))
  changed = np.abs(out - images).max(axis=(1, 2, 3)) > 1e-5
  # Untouched by all four with probability 1/16.
  assert 0.8 < changed.mean() < 1
  flat = jnp.broadcast_to(jnp.linspace(-1, 1, 16)[None, :, None, None], (64, 16, 16, 3))
  moved = np.asarray(run(flat, jax.random.key(2), 1.0))
  # Rows stay constant along x: shifts along y, and colours that act on whole images.
  np.testing.assert_allclose(moved, np.broadcast_to(moved[:, :, :1], moved.shape), atol=1e-5)


def test_probability_follows_the_signs():
  up = adjusted(jnp.float32(0.1), jnp.ones((50,)), 0.6)
  assert float(up) == pytest.approx(0.1 + 50 / 200_000)
  down = adjusted(jnp.float32(0.1), -jnp.ones((50,)), 0.6)
  assert float(down) == pytest.approx(0.1 - 50 / 200_000)
  assert float(adjusted(jnp.float32(0.8), jnp.ones((50,)), 0.6)) == pytest.approx(0.8)
  assert float(adjusted(jnp.float32(0), -jnp.ones((50,)), 0.6)) == 0


SMALL = {'resolution': 8, 'widths': (8, 4), 'discriminator_widths': (8, 4)}


def plain_config():
  """Without augmentation: the plain losses below then need no copy of its random numbers."""
  config = smoke.get_config()
  config.update({'augment_target': None, 'flip': False, 'average_images': 100, 'average_ramp': 1.0} | SMALL)
  return config


@pytest.fixture(scope='module')
def config():
  return plain_config()


@pytest.fixture(scope='module')
def training(config):
  return steps.prepare(config, data_mesh())


@pytest.fixture(scope='module')
def reals(config):
  return made(config.batch, config.resolution)


def networks(config):
  """Both networks as functions of their learnt arrays, made apart from the trainer."""
  graph_g, _, buffers = nnx.split(StyleGAN2(steps.generator_options(config), nnx.Rngs(config.seed)), nnx.Param, ...)
  widths = tuple(reversed(config.discriminator_widths))
  graph_d = nnx.graphdef(Discriminator(widths, 3, nnx.Rngs(0)))
  return (lambda p: nnx.merge(graph_g, p, buffers)), (lambda p, x: nnx.merge(graph_d, p)(x))


def close(found, expected):
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    # Adam divides by the gradient's size: where that is rounding, so is the step (of 0.0025).
    np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-3)


def test_adversarial_step_is_two_steps_of_adam(config, training, reals):
  generator, judge = networks(config)
  state = training.begin()
  keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), 0), 0), 5)
  z = jax.random.normal(keys[0], (config.batch, config.z_dim))
  real = jnp.asarray(reals, jnp.float32) / 127.5 - 1

  def fake(p):
    model = generator(p)
    return model(model.map(z), noise=keys[1])

  def loss_d(p):
    made_up = jax.nn.softplus(judge(p, fake(state.generator)))
    return jnp.mean(made_up) + jnp.mean(jax.nn.softplus(-judge(p, real)))

  def loss_g(p, discriminator):
    return jnp.mean(jax.nn.softplus(-judge(discriminator, fake(p))))

  def stepped(gradient, params, every):
    share = every / (every + 1)
    adam = optax.adam(config.learning_rate * share, b1=0.0, b2=0.99**share)
    updates, _ = adam.update(gradient, adam.init(params), params)
    return optax.apply_updates(params, updates)

  @jax.jit
  def expected(state):
    value_d, gradient_d = jax.value_and_grad(loss_d)(state.discriminator)
    expected_d = stepped(gradient_d, state.discriminator, config.r1_every)
    value_g, gradient_g = jax.value_and_grad(loss_g)(state.generator, expected_d)
    expected_g = stepped(gradient_g, state.generator, config.path_every)
    kept = 0.5 ** (config.batch / config.batch)  # the ramp: half of the average is of all images so far
    average = jax.tree.map(lambda a, b: kept * a + (1 - kept) * b, state.average, expected_g)
    return value_d, expected_d, value_g, expected_g, average

  value_d, expected_d, value_g, expected_g, average = expected(state)
  after, metrics = training.adversarial(state, reals)
  assert float(metrics['generator_loss']) == pytest.approx(float(value_g), rel=1e-5)
  assert float(metrics['discriminator_loss']) == pytest.approx(float(value_d), rel=1e-5)
  close(after.generator, expected_g)
  close(after.discriminator, expected_d)
  close(after.average, average)
  assert int(after.images) == config.batch


def test_r1_is_the_mean_squared_slope(config, training, reals):
  _, judge = networks(config)
  state = training.begin()
  real = jnp.asarray(reals, jnp.float32) / 127.5 - 1
  slopes = jax.jit(jax.grad(lambda x: judge(state.discriminator, x).sum()))(real)
  expected = float(jnp.sum(jnp.square(slopes)) / config.batch)
  found = []
  for _ in range(20):
    state, metrics = training.discriminator_penalty(state, reals)
    found.append(float(metrics['r1']))
  assert found[0] == pytest.approx(expected, rel=1e-4)
  assert found[-1] < 0.7 * found[0]  # it goes down where nothing holds against it


def test_path_penalty_keeps_to_the_running_mean(config, training):
  state = training.begin()
  state, metrics = training.path_penalty(state)
  assert float(state.path_mean) == pytest.approx(0.01 * float(metrics['path_length']), rel=1e-5)
  assert float(metrics['path_length']) > 0


def test_a_step_returns_the_types_it_takes(training, reals):
  """Weak ones too, or it would be compiled again for its own result."""
  start = jax.eval_shape(training.begin)
  steps = (training.adversarial, reals), (training.discriminator_penalty, reals), (training.path_penalty,)
  for step, *arguments in steps:
    after, _ = jax.eval_shape(step, start, *arguments)
    pairs = zip(jax.tree.leaves(start), jax.tree.leaves(after), strict=True)
    assert all((a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type) for a, b in pairs)


def test_exported_generator_knows_its_mean_w(training, config):
  model = training.exported(training.begin())
  z = jax.random.normal(jax.random.key(9), (20_000, config.z_dim))
  mean = np.asarray(model.mapping(z)).mean(axis=0)
  # Both are means of some 20 000 draws of deviation about 1.
  np.testing.assert_allclose(model.w_avg[...], mean, atol=0.05)


def test_a_generator_that_has_learnt_waits_for_its_discriminator(training, reals, tmp_path):
  """In bfloat16, whose steps must be finite and keep float32 weights."""
  learnt = training.exported(training.begin())
  save_generator(learnt, tmp_path / 'learnt', {})
  config = smoke.get_config()
  config.update({'precision': 'bfloat16', 'seed': 7, 'initial': str(tmp_path / 'learnt')} | SMALL)
  config.lead = 0.4
  begun = steps.prepare(config, data_mesh())
  state = begun.begin()

  def weights(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves((state.generator, state.average))]

  expected = 2 * jax.tree.leaves(nnx.state(learnt, nnx.Param))
  discriminator = jax.device_get(jax.tree.leaves(state.discriminator))
  for a, b in zip(weights(state), expected, strict=True):
    np.testing.assert_array_equal(a, b)
  state, _ = begun.adversarial(state, reals, learns=False)
  for a, b in zip(weights(state), expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)  # the average of equal numbers, rounded
  assert any((a != b).any() for a, b in zip(jax.tree.leaves(state.discriminator), discriminator, strict=True))
  moved = []
  for signs in (0.0, 0.2, 0.4):  # the discriminator cannot tell, has half of the lead, and the whole
    before = weights(state)
    state, metrics = begun.adversarial(dataclasses.replace(state, signs=jnp.float32(signs)), reals)
    moved.append(max(np.abs(a - b).max() for a, b in zip(weights(state), before, strict=True)))
    assert np.sign(state.signs - signs) in (0, np.sign(metrics['real_signs'] - signs))
  assert moved[0] == 0 < moved[1] < moved[2]
  assert all(np.isfinite(value) for value in metrics.values())
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state.generator))


@pytest.mark.parametrize(
  ('changes', 'argument'),
  [
    ({'widths': (8, 8)}, 'widths'),
    ({'discriminator_widths': (8, 8, 8, 8)}, 'discriminator_widths'),
    ({'batch': 6}, 'batch'),
    ({'precision': 'float8'}, 'precision'),
    ({'r1_every': 0}, 'r1_every'),
    ({'augment': 1.5}, 'augment'),
    ({'aliasing': 0.0}, 'aliasing'),
    ({'discriminator_images': -1}, 'discriminator_images'),
    ({'generator_share': 1.5}, 'generator_share'),
    ({'lead': -0.1}, 'lead'),
  ],
)
def test_refusals(changes, argument):
  config = smoke.get_config()
  config.update(changes)
  with pytest.raises(InputError) as caught:
    steps.check(config, 1)
  assert caught.value.argument == argument


@pytest.mark.parametrize(
  ('changes', 'text'),
  [
    ({'initial': 'nowhere'}, 'nowhere'),
    ({'initial': 'cats64'}, 'its network is not that of the configuration'),
  ],
)
def test_another_network_is_no_beginning(changes, text):
  config = smoke.get_config()
  config.update(changes)
  with pytest.raises(InputError, match=text):
    steps.prepare(config, data_mesh())


def test_noise_maps_are_left_out_where_there_are_none():
  config = cats64_cpu.get_config()
  config.initial = 'cats64'
  without = steps._initial(config, steps.generator_options(config))
  assert not any('noise' in str(name) for path, _ in nnx.to_flat_state(without) for name in path)


@pytest.mark.parametrize('config', [cats64_cpu, cats64_gpu, smoke])
def test_configurations_fit(config):
  config = config.get_config()
  assert isinstance(config, ml_collections.ConfigDict)
  steps.check(config, 1)
  steps.generator_options(config).check()


SHARDED = """
import json, sys
import jax, numpy as np
from examples.train_generator import steps
from panda_jax.features.sharding import data_mesh
from tests.examples.pictures import made
from tests.examples.test_train_steps import plain_config
config = plain_config()
training = steps.prepare(config, data_mesh())
reals = jax.device_put(made(config.batch, config.resolution), training.batches)
state, metrics = training.adversarial(training.begin(), reals)
sums = [float(np.abs(np.asarray(leaf)).sum()) for leaf in jax.tree.leaves((state.generator, state.discriminator))]
print(json.dumps([jax.device_count(), {k: float(v) for k, v in metrics.items()}, sums]))
"""


def test_two_devices_train_as_one(training, reals):
  devices, metrics, sums = json.loads(run_with_devices(2, SHARDED).splitlines()[-1])
  assert devices == 2
  state, expected = training.adversarial(training.begin(), reals)
  for name, value in metrics.items():
    # Sums over the batch in another order.
    assert value == pytest.approx(float(expected[name]), rel=1e-4, abs=1e-5), name
  leaves = jax.tree.leaves((state.generator, state.discriminator))
  # Adam divides by the gradient's size: where that is rounding, so is the step (of 0.0025).
  np.testing.assert_allclose(sums, [np.abs(leaf).sum() for leaf in leaves], rtol=1e-3, atol=1e-3)
