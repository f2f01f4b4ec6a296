"""Schedules: their equations, PyTorch's, their state and bad input."""

import json
import math

import numpy as np
import pytest

from lstm_ext.schedules import Cosine, Plateau, Step, WarmUp


def test_by_hand():
    cosine = Cosine(10, end=0.2)
    assert [cosine.factor(t) for t in (0, 5, 10, 30)] == pytest.approx([1, 0.6, 0.2, 0.2])
    assert [Step(3, 0.5).factor(t) for t in (0, 2.99, 3, 8.9, 9)] == [1, 1, 0.5, 0.25, 0.125]
    assert [WarmUp(2, 0.5).factor(t) for t in (0, 1, 2, 7)] == [0.5, 0.75, 1, 1]
    both = WarmUp(2, 0.5) * Cosine(4)
    assert both.factor(1) == pytest.approx(0.75 * (1 + math.cos(math.pi / 4)) / 2)
    assert repr(both) == "WarmUp(epochs=2.0, start=0.5) * Cosine(epochs=4.0, end=0.0)"


def test_they_agree_with_torch():
    torch = pytest.importorskip("torch", reason="PyTorch's schedules are what these are compared with")
    schedulers = torch.optim.lr_scheduler
    losses = np.abs(np.random.default_rng(0).normal(size=60)).cumsum()[::-1] // 4 + 1
    for ours, theirs in [
        (Cosine(30), lambda o: schedulers.CosineAnnealingLR(o, 30)),
        (Cosine(30, end=0.1), lambda o: schedulers.CosineAnnealingLR(o, 30, eta_min=0.01)),
        (Step(7, 0.3), lambda o: schedulers.StepLR(o, 7, 0.3)),
        (WarmUp(5, 0.25), lambda o: schedulers.LinearLR(o, 0.25, 1.0, 5)),
        (Plateau(0.5, patience=2), lambda o: schedulers.ReduceLROnPlateau(o, factor=0.5, patience=2)),
        (Plateau(0.5, patience=0, min_delta=0.1),
         lambda o: schedulers.ReduceLROnPlateau(o, factor=0.5, patience=0, threshold=0.1, eps=0)),
    ]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        scheduler = theirs(optimizer)
        for epoch in range(30):
            lr = optimizer.param_groups[0]["lr"]
            assert 0.1 * ours.factor(epoch) == pytest.approx(lr, rel=1e-9, abs=1e-17), (ours, epoch)
            optimizer.step()
            ours.observe({"loss": losses[epoch]})
            scheduler.step(*([losses[epoch]] if isinstance(ours, Plateau) else []))
        assert ours.factor(29) < 1 or isinstance(ours, WarmUp)


def test_plateau_has_a_floor_and_looks_at_the_validation_loss():
    schedule = Plateau(0.1, patience=0, least=0.05)
    for k in range(5):
        schedule.observe({"loss": 1 - k / 10, "validation_loss": 2.0})
    assert schedule.factor(5) == 0.05
    training = Plateau(0.1, patience=0, monitor="loss")
    for k in range(5):
        training.observe({"loss": 1 - k / 10, "validation_loss": 2.0})
    assert training.factor(5) == 1
    with pytest.raises(ValueError, match="no validation"):
        Plateau(monitor="validation_loss").observe({"loss": 1.0})


def test_state_goes_through_json():
    def make():
        return WarmUp(2) * (Plateau(0.5, patience=1) * Step(4))

    whole, first = make(), make()
    losses = [3, 2, 2, 2, 2, 1, 1, 1, 1]
    for loss in losses[:4]:
        whole.observe({"loss": loss})
        first.observe({"loss": loss})
    second = make()
    second.state = json.loads(json.dumps(first.state))
    for loss in losses[4:]:
        whole.observe({"loss": loss})
        second.observe({"loss": loss})
        assert second.factor(3.5) == whole.factor(3.5)
    assert whole.factor(3.5) == 0.25
    with pytest.raises(ValueError, match="has no state"):
        Cosine(3).state = {"factor": 1}


@pytest.mark.parametrize("make, error, words", [
    (lambda: Cosine(0), ValueError, "epochs is 0; expected a finite number > 0"),
    (lambda: Cosine(3, end=2), ValueError, "end is 2; expected a number from 0 to 1"),
    (lambda: Step("3"), TypeError, "every is .*; expected"),
    (lambda: Step(3, -1), ValueError, "gamma is .*; expected"),
    (lambda: WarmUp(1, -0.1), ValueError, "start is .*; expected"),
    (lambda: Plateau(1.0), ValueError, "gamma is .*; expected a number between 0 and 1"),
    (lambda: Plateau(patience=1.5), TypeError, "patience is 1.5; expected an integer"),
    (lambda: Plateau(monitor="acc"), ValueError, "monitor is 'acc'; expected 'validation_loss', "),
    (lambda: Cosine(3) * 2, TypeError, "unsupported operand"),
])
def test_bad_words_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()
