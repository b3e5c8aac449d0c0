"""Every plot says what it shows, on which task, and of how many seeds."""

import numpy as np
import pytest

from memorax.experiments.study import plots
from memorax.experiments.study.plots import Reached

STEPS = np.array([10, 20])
MODELS = {"gru": (STEPS, np.zeros((3, 2))), "mlp": (STEPS, np.ones((3, 2)))}


@pytest.fixture
def drawn(monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.append(figure))
    return figures


def test_learning_curves_name_the_tasks_and_the_seeds(drawn, tmp_path):
    plots.plot_learning_curves(tmp_path / "x.png", {"memory::TMazePassive": MODELS})
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes] == ["memory::TMazePassive"]
    assert "interquartile mean of 3 seeds" in figure.get_suptitle()


def test_profiles_name_the_tasks_and_the_seeds(drawn, tmp_path):
    scores = {"gru": np.zeros((3, 1)), "mlp": np.ones((2, 1))}
    plots.plot_performance_profiles(tmp_path / "x.png", {"return on memory::TMazePassive": scores})
    (figure,) = drawn
    assert [axes.get_xlabel() for axes in figure.axes] == ["return on memory::TMazePassive"]
    assert "2 to 3 seeds" in figure.get_suptitle()


def test_searched_values_have_the_title_that_they_are_given(drawn, tmp_path):
    reached = [Reached(0.1, 1.0, 0.9, 1.1), Reached(0.2, 0.5, None, None)]
    plots.plot_searched_values(tmp_path / "x.png", "gru, ppo on X", {"gamma": reached}, ())
    (figure,) = drawn
    assert figure.get_suptitle() == "gru, ppo on X"
