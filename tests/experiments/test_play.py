import io

import jax
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import memorax
from memorax.algorithms.policy import PolicyStep
from memorax.environments import Box, MultiDiscrete
from memorax.experiments.cli.command_line import main
from memorax.experiments.play import influence
from memorax.experiments.play.episode import Player, activity
from memorax.experiments.play.gif import write_gif
from memorax.experiments.play.terminal import show, summary
from memorax.experiments.play.text import observation_frame, observation_text
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.policy import load_step

TASK = "memory::TMazePassive"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run that went to its end."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = (
        *("--environment", TASK, "--environment-parameters", "corridor_length=5"),
        *("--features", "8", "--num-envs", "4", "--num-steps", "8", "--num-seeds", "2"),
        *("--num-minibatches", "2", "--update-epochs", "1", "--total-steps", "64"),
        *("--evaluation-episodes", "2", "--torso", "gru", "--no-memoryless-twin"),
    )
    assert main(["train", *options, "--run-folder", str(folder)]) == 0
    return folder


def untrained(task, torso="gru"):
    config = TrainConfig(environment=task, torso=torso, features=8, environment_parameters=())
    agent = make_agent(config, torso)
    state = jax.jit(agent.init)(jax.random.key(0))
    return PolicyStep(agent, state, reads_reward=False)


def test_an_episode_is_what_a_policy_plays(run):
    step = load_step(run, None, 1)
    episode = Player(step, TASK, draw=False).play(jax.random.key(5), max_steps=100)
    policy = memorax.Policy.load(run, seed=1)
    reset_key, key = jax.random.split(jax.random.key(5))
    observation, state = step.task.reset(reset_key, None)
    total = 0.0
    advance = jax.jit(lambda key, state, action: step.task.step(key, state, action, None))
    for index, moment in enumerate(episode.moments):
        assert moment.text == step.task.render_text(state, None)
        action = policy(observation)
        assert moment.action == action
        observation, state, reward, terminated, truncated, _ = advance(
            jax.random.fold_in(key, index), state, action
        )
        total += float(reward)
        assert (moment.reward, moment.episode_return) == (float(reward), total)
        assert bool(terminated | truncated) == (index == len(episode.moments) - 1)
        (hidden,) = jax.tree.leaves(step.memory(policy._carry))
        np.testing.assert_allclose(episode.memory[:, index], hidden.ravel(), rtol=1e-6)
    assert episode.ended
    assert episode.memory.shape == (8, len(episode.moments))


def test_piped_output_is_a_line_for_each_episode_and_every_step_is_drawn_into_a_picture(
    run, tmp_path, capsys
):
    path = tmp_path / "episodes.gif"
    options = ["--episodes", "2", "--output", str(path), "--seed", "1"]
    assert main(["play", str(run), *options]) == 0
    told = capsys.readouterr().out
    step = load_step(run, None, 1)
    player = Player(step, TASK, draw=False)
    episodes = [player.play(jax.random.fold_in(jax.random.key(0), index), 500) for index in (0, 1)]
    lengths = [len(episode.moments) for episode in episodes]
    title, *lines = told.splitlines()
    assert title == f"{TASK} corridor_length=5, memory of gru"
    for index, episode in enumerate(episodes):
        assert lines[index] == f"episode {index}: {summary(episode)}"
        assert f"return {episode.moments[-1].episode_return:.3f}" in lines[index]
    assert len(lines) <= 5
    assert f"{TASK} corridor_length=5 does not draw: it is shown as text" in told
    with Image.open(path) as picture:
        assert picture.n_frames == sum(lengths)
        assert picture.info["duration"] == 200
        # What is yet to come of the memory is white, and all of it is coloured in the last step.
        for index, whole in ((0, False), (lengths[0] - 1, True)):
            picture.seek(index)
            right_edge = np.asarray(picture.convert("RGB"))[100, -15]
            assert (right_edge != 255).any() == whole


def test_the_influence_of_each_step_is_measured_on_what_the_network_reads(run):
    step = load_step(run, None, 1)
    player = Player(step, TASK, draw=False)
    episode = player.play(jax.random.key(5), max_steps=4)
    network, params = step.network
    read = jax.tree.map(jax.numpy.asarray, episode.inputs)
    assert read.done.tolist() == [[True, False, False, False]]
    # Read in one go, the inputs lead to the actions that were taken step by step.
    _, output = network.apply(params, read.observation, read.done, read.action, read.reward)
    actions = [int(moment.action) for moment in episode.moments]
    assert output.policy.mode()[0].tolist() == actions
    assert read.action[0, 1:].tolist() == actions[:-1]
    measured = influence.measure_influence(player, episode)
    assert measured.shape == (4, 4)
    np.testing.assert_array_equal(measured > 0, np.tri(4, dtype=bool))


def test_the_influence_of_each_step_is_drawn(run, tmp_path, capsys):
    path = tmp_path / "influence.png"
    assert main(["play", str(run), "--no-terminal", "--influence", str(path)]) == 0
    assert "influence of each step" in capsys.readouterr().out
    with Image.open(path) as picture:
        assert picture.format == "PNG"
    assert main(["play", str(run), "--no-terminal", "--influence", str(path)]) == 2
    assert "influence.png exists and is not overwritten" in capsys.readouterr().err
    # A model without memory moves nothing but its own step, and a constant one not even that.
    for values in (np.eye(3), np.zeros((3, 3)), np.ones((1, 1))):
        influence.plot_influence(tmp_path / "other.png", values, "$")


def test_an_episode_that_does_not_end_is_cut_off(run, capsys):
    assert main(["play", str(run), "--max-steps", "2"]) == 0
    told = capsys.readouterr().out
    assert "episode 0: 2 steps, truncated, return " in told


def test_every_step_is_shown_in_a_terminal():
    episode = Player(untrained(TASK), TASK, draw=False).play(jax.random.key(0), 3)
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=120, color_system=None)
    show([episode], "gru", console, 1000)
    told = shown.getvalue()
    assert "memory of gru" in told
    assert all(f"step {index}" in told for index in (1, 2, 3))


def test_pictures_are_shown_as_pictures_and_parts_by_name():
    colours = np.zeros((2, 3, 3), np.uint8)
    colours[0, 0] = 255
    categories = np.array([[[1, 2], [0, 11]]])
    channels = np.zeros((1, 3, 5), np.float32)
    channels[0, 1, 4] = 1
    observation = {"cells": categories, "layers": channels, "rgb": colours}
    space = {
        "cells": MultiDiscrete(0, 11, (1, 2, 2)),
        "layers": Box(0, 1, (1, 3, 5)),
        "rgb": Box(0, 255, (2, 3, 3), np.uint8),
    }
    assert observation_text(observation, space).splitlines() == [
        "cells:",
        "channel 0  channel 1",
        "10         2b",
        "layers:",
        "·4·",
        "the strongest of 5 channels",
        "rgb:",
        "█··",
        "···",
        "2×3×3 numbers, averaged",
    ]
    np.testing.assert_array_equal(observation_frame(observation, space), colours)


def test_a_title_is_as_wide_as_a_picture_can_be(tmp_path):
    title = f"{TASK} corridor_length=5 " + "a_long_name=1 " * 8
    episode = Player(untrained(TASK), title, draw=False).play(jax.random.key(0), 1)
    write_gif([episode], "gru", tmp_path / "a.gif", 5)
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.width > 7 * len(title) + 320


def test_a_model_without_memory_is_said_to_have_none(tmp_path):
    episode = Player(untrained(TASK, "mlp"), TASK, draw=True).play(jax.random.key(0), 3)
    assert episode.memory.shape == (0, 3)
    assert activity(episode.memory, 4).caption == "no memory"
    write_gif([episode], "mlp", tmp_path / "mlp.gif", 10)
    with Image.open(tmp_path / "mlp.gif") as picture:
        assert picture.n_frames == 3


@pytest.mark.extra("minigrid")
def test_a_task_that_draws_is_drawn_beside_its_memory(tmp_path):
    task = "minigrid::MiniGrid-MemoryS7-v0"
    episode = Player(untrained(task, "lru"), task, draw=True).play(jax.random.key(0), 4)
    frames = [moment.frame for moment in episode.moments]
    assert {frame.shape for frame in frames} == {(224, 224, 3)}
    assert np.isfinite(episode.memory).all()
    write_gif([episode], "lru", tmp_path / "drawn.gif", 10)
    with Image.open(tmp_path / "drawn.gif") as picture:
        assert picture.n_frames == 4
        assert picture.height == 314
        # The frame itself is in it, scaled to the same height as the memory.
        drawn = np.asarray(picture.convert("RGB"))[28:268, 10 : picture.width - 350]
        colors = {tuple(color) for color in frames[0].reshape(-1, 3)}
        assert {tuple(color) for color in drawn.reshape(-1, 3)} >= colors


def test_the_units_that_vary_most_are_shown_each_on_its_own_scale():
    still, small, large = np.full(4, 3.0), [0, 0.1, 0.2, 0.1], [1.0, 5.0, 9.0, 1.0]
    unknown = [-np.inf, 1.0, 2.0, 3.0]
    memory = np.array([still, large, small, unknown, np.full(4, np.nan)])
    shown = activity(memory, 3)
    assert shown.caption.startswith("the 3 of 5 units that vary most")
    expected = [[0, 0.5, 1, 0], [0, 0.5, 1, 0.5], [np.nan, 0, 0.5, 1]]
    np.testing.assert_allclose(shown.shares, expected)
    every = activity(memory, 5)
    np.testing.assert_array_equal(every.shares[0], 0)
    assert np.isnan(every.shares[4]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--output", "taken.gif"), "taken.gif exists and is not overwritten"),
        (("--influence", "picture.gif"), "influence must end in .png, got picture.gif"),
        (("--influence", "nowhere/a.png"), "influence must be in a folder that exists"),
        (("--output", "episode.png"), "output must end in .gif, got episode.png"),
        (("--output", "nowhere/episode.gif"), "output must be in a folder that exists"),
        (("--no-terminal",), "--no-terminal leaves nothing to be seen but by --output"),
        (("--seed", "2"), "seed must be an integer from 0 to 1, got 2"),
        (("--model", "mlp"), "unknown model"),
        (("--episodes", "0"), "episodes must be an integer of at least 1, got 0"),
        (("--max-steps", "0"), "max_steps must be an integer of at least 1, got 0"),
        (("--frames-per-second", "51"), "frames_per_second must be an integer from 1 to 50"),
        (("--first-episode", "-1"), "first_episode must be an integer from 0 to"),
    ],
)
def test_what_cannot_be_played_is_refused(run, options, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.gif").touch()
    assert main(["play", str(run), *options]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["taken.gif"]


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert main(["play", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
