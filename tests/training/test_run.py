"""A run learns, keeps its best weights, and ends at the same bits whether it was killed or not."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from medrecon.errors import InconsistentError, WeightsError
from medrecon.priors.weights import load_prior
from medrecon.training import run as running
from medrecon.training.denoising import patients_set
from medrecon.training.judge import Judge, Scores
from medrecon.training.run import CHECKPOINT, train
from medrecon.training.sources import source_of
from medrecon.training.state import read_facts


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Pictures take longer than the runs; tests/test_train.py draws one."""
    monkeypatch.setattr(running, "draw_progress", lambda *_: None)


def begin(recipe, slices, folder, judge=None):
    folder.mkdir(exist_ok=True)
    clean = patients_set(slices, recipe.validation.slices, recipe)
    return train(recipe, source_of(recipe, slices), judge or Judge(recipe, clean), folder)


def kill_after(events, steps):
    """Run until a step is made, then drop everything that is only in memory."""
    for report in events:
        if report.step == steps:
            break
    events.close()


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_killed_run_ends_at_the_bits_of_one_that_was_not(tmp_path, small, blobs, modality):
    recipe = small(modality, data={"synthetic": 0.2}, patches={"pixels": 1024})
    slices = blobs(modality)
    list(begin(recipe, slices, tmp_path / "whole"))
    kill_after(begin(recipe, slices, tmp_path / "killed"), 3)  # before the first checkpoint
    assert not (tmp_path / "killed" / CHECKPOINT).exists()
    kill_after(begin(recipe, slices, tmp_path / "killed"), 6)  # two steps after the first
    assert read_facts(tmp_path / "killed" / CHECKPOINT)["step"] == 4
    steps = [report.step for report in begin(recipe, slices, tmp_path / "killed")]
    assert steps == [5, 6, 7, 8]
    whole, killed = (load_file(tmp_path / name / CHECKPOINT) for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[key], killed[key]) for key in whole)
    for name in ("weights.safetensors", "card.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    rows = [json.loads((tmp_path / n / "history.json").read_text()) for n in ("whole", "killed")]
    assert rows[0] == rows[1]
    assert len(rows[0]["rows"]) == 2


def test_another_seed_is_another_result(tmp_path, small, blobs):
    for seed in (0, 1):
        list(begin(small(seed=seed), blobs(), tmp_path / f"{seed}"))
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in "01")
    assert not torch.equal(one["tail.weight"], other["tail.weight"])


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_training_learns_to_denoise(tmp_path, small, blobs, modality):
    recipe = small(modality, budget={"steps": 60}, validation={"every_steps": 30, "slices": 4})
    slices = blobs(modality)
    reports = [r for r in begin(recipe, slices, tmp_path / "run") if r.scores]
    noisy = 10 * math.log10(4 / 0.5**2)
    assert [r.step for r in reports] == [30, 60]
    assert reports[-1].scores.psnr[0.5] > noisy + 6
    assert reports[-1].scores.value > reports[0].scores.value
    assert reports[-1].loss < reports[0].loss


def test_the_best_weights_are_kept_not_the_last(tmp_path, small, blobs):
    recipe, slices = small(validation={"every_steps": 2, "slices": 2}), blobs()
    real = Judge(recipe, patients_set(slices, 2, recipe))
    seen = []

    def judge(model, folder):
        real(model, folder)
        seen.append(load_file(folder / "weights.safetensors"))
        return Scores({1.0: [1.0, 3.0, 2.0, 3.0][len(seen) - 1]})

    reports = [r for r in begin(recipe, slices, tmp_path / "run", judge) if r.scores]
    assert [r.best for r in reports] == [True, True, False, False]
    kept = load_file(tmp_path / "run" / "weights.safetensors")
    assert all(torch.equal(kept[key], seen[1][key]) for key in kept)
    assert not torch.equal(kept["tail.weight"], seen[3]["tail.weight"])
    load_prior(str(tmp_path / "run"))  # its card is that of these weights
    assert not (tmp_path / "run" / ".candidate").exists()


def test_minutes_become_steps_once(tmp_path, small, blobs, monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr(running.time, "monotonic", lambda: 0.1 * next(ticks))
    recipe = small(
        budget={"steps": None, "minutes": 0.15},
        validation={"every_steps": None, "every_minutes": 0.06, "slices": 2},
    )
    events = begin(recipe, blobs(), tmp_path / "run")
    seen = {report.step: report.steps for report in events}
    assert seen[23] is None
    steps = seen[24]
    assert steps == max(seen) > 24
    facts = read_facts(tmp_path / "run" / CHECKPOINT)
    assert facts["steps"] == steps
    assert facts["validate_every"] == pytest.approx(0.4 * steps, abs=1)


def test_a_restart_keeps_the_schedule_of_a_run_in_minutes(tmp_path, small, blobs, monkeypatch):
    recipe = small(
        budget={"steps": None, "minutes": 0.5},
        validation={"every_steps": 10, "slices": 2},
    )
    events = begin(recipe, blobs(), tmp_path / "run")
    kill_after(events, 31)
    steps = read_facts(tmp_path / "run" / CHECKPOINT)["steps"]
    ticks = iter(range(10**6))
    monkeypatch.setattr(running.time, "monotonic", lambda: 100.0 * next(ticks))  # a slower machine
    again = next(begin(recipe, blobs(), tmp_path / "run"))
    assert (again.step, again.steps) == (31, steps)


def test_no_steps_measure_the_initial_weights(tmp_path, small, blobs):
    list(begin(small(), blobs(), tmp_path / "first"))
    recipe = small(network={"initial": str(tmp_path / "first")}, budget={"steps": 0})
    (report,) = begin(recipe, blobs(), tmp_path / "again")
    assert (report.step, report.best) == (0, True)
    one, other = (load_file(tmp_path / n / "weights.safetensors") for n in ("first", "again"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_initial_weights_of_another_network_are_refused(tmp_path, small, blobs):
    list(begin(small(), blobs(), tmp_path / "first"))
    recipe = small(network={"initial": str(tmp_path / "first"), "blocks": 2})
    with pytest.raises(WeightsError, match="do not fit the recipe's network"):
        list(begin(recipe, blobs(), tmp_path / "again"))


def test_a_damaged_checkpoint_is_refused(tmp_path, small, blobs):
    list(begin(small(), blobs(), tmp_path / "run"))
    path = tmp_path / "run" / CHECKPOINT
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(WeightsError, match="damaged or of another network"):
        list(begin(small(), blobs(), tmp_path / "run"))


def test_a_run_that_diverges_says_so(tmp_path, small, blobs):
    broken = blobs()
    broken.series[0].slices[:] = 1e30
    broken.series[1].slices[:] = 1e30
    with pytest.raises(InconsistentError, match="no longer finite at step 1"):
        list(begin(small(), broken, tmp_path / "run"))
