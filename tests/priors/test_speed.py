"""What makes a prior fast changes nothing that counts: batches, precision, replayed graphs."""

import math

import pytest
import torch

from medrecon import devices
from medrecon.errors import ResourceError, WeightsError
from medrecon.priors.batching import WORTH, plan_batch, with_batch
from medrecon.priors.footprint import activation_bytes
from medrecon.priors.graphs import Graphed, GraphWarning
from medrecon.priors.network import EDM, UNet, _in_full_precision
from medrecon.priors.precision import LIMIT_DB, autocast, choose_precision, rounding_loss_db
from medrecon.priors.slicewise import Slicewise

LEVELS = ((0.02, 1e-4), (0.1, 1e-3), (0.5, 4e-3), (1.0, 1e-2), (2.0, 2e-2))


def _model(*, neighbours=False, channels=1):
    torch.manual_seed(0)
    network = UNet(channels, (16, 24), 1, 32, neighbours)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return EDM(network.eval().requires_grad_(False), 0.45)


@pytest.mark.parametrize("neighbours", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_every_batch_denoises_every_slice_with_its_own_neighbours(neighbours, batch):
    prior = Slicewise(_model(neighbours=neighbours), LEVELS, batch=5)
    x = torch.randn(5, 12, 20, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(with_batch(prior, batch)(x, 0.4), prior(x, 0.4), atol=1e-5)


def test_memory_of_two_layers_is_what_one_counts_by_hand():
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(8, 1, 3, padding=1)
    )
    x = torch.empty(2, 1, 10, 10)
    # the widest moment: the first layer's result beside its rectified copy
    assert activation_bytes(layers, (x,)) == 2 * (2 * 8 * 10 * 10) * 4
    assert activation_bytes(layers, (x,), torch.bfloat16) == 2 * (2 * 8 * 10 * 10) * 2


def test_views_and_results_in_place_cost_no_memory():
    class Views(torch.nn.Module):
        def forward(self, x):
            y = x + 1
            return y.view(-1).relu_().view(x.shape).transpose(-1, -2)

    assert activation_bytes(Views(), (torch.empty(6, 5),)) == 6 * 5 * 4


def test_memory_grows_with_the_batch_and_with_the_slice():
    network = _model().network

    def needed(count, size):
        return activation_bytes(
            network,
            (
                torch.empty(count, 1, size, size),
                torch.empty(count),
                torch.empty(count, 2, size, size),
            ),
        )

    assert needed(4, 32) == pytest.approx(4 * needed(1, 32), rel=0.02)
    assert needed(1, 64) == pytest.approx(4 * needed(1, 32), rel=0.02)


def test_the_batch_is_what_fits_and_never_more_than_is_worth_it():
    prior = Slicewise(_model(neighbours=True), LEVELS)
    plenty = plan_batch(prior, (32, 64, 64), device="cpu", available=math.inf)
    assert (plenty.batch, plenty.as_json()["available_mib"]) == (WORTH["cpu"], None)
    copies = plenty.weights  # in the layout of the convolutions
    single = (plenty.activations - copies) // plenty.batch
    free = (copies + 3.2 * single) / 0.7
    tight = plan_batch(prior, (32, 64, 64), device="cpu", available=free)
    assert (tight.batch, tight.activations) == (3, copies + 3 * single)
    beside = int(1.5 * single)
    volumes = plan_batch(prior, (32, 64, 64), device="cpu", available=free, volumes=beside)
    assert volumes.batch == 1
    assert volumes.needed == 2 * copies + single + beside
    assert plan_batch(prior, (2, 64, 64), device="cpu", available=math.inf, at_most=8).batch == 2


def test_a_volume_that_cannot_fit_is_refused_in_one_sentence_before_the_run():
    prior = Slicewise(_model(), LEVELS)
    with pytest.raises(ResourceError, match="use a smaller grid") as error:
        plan_batch(prior, (4, 512, 512), device="cpu", available=2**20)
    assert "\n" not in str(error.value)


def test_rounding_is_measured_against_the_error_of_the_prior():
    prior = Slicewise(_model(), LEVELS)

    def blurred(x, sigma, precision):
        return x + (0.0 if precision == torch.float32 else 0.01)

    loss = rounding_loss_db(blurred, ((0.5, 1e-3), (1.0, 1e-2)), torch.bfloat16, channels=1)
    assert loss == pytest.approx(10 * math.log10(1 + 1e-4 / 1e-3), rel=1e-4)
    kwargs = {"channels": 1, "device": "cpu"}
    assert choose_precision("auto", blurred, LEVELS, fast=True, **kwargs) == torch.float32
    assert choose_precision("bfloat16", blurred, LEVELS, fast=False, **kwargs) == torch.bfloat16
    with pytest.raises(WeightsError, match="no precision 'half'"):
        choose_precision("half", blurred, LEVELS, fast=True, **kwargs)
    assert prior.precision == torch.float32


@pytest.mark.parametrize("channels", [1, 2])
def test_a_network_in_half_precision_loses_little_and_is_taken_where_it_is_fast(channels):
    model = _model(channels=channels)

    def denoise(x, sigma, precision):
        return Slicewise(model, LEVELS, precision=precision)(x, sigma)

    loss = rounding_loss_db(denoise, LEVELS[:2], torch.bfloat16, channels=channels)
    assert 0 < loss < LIMIT_DB
    kwargs = {"channels": channels, "device": "cpu"}
    assert choose_precision("auto", denoise, LEVELS, fast=True, **kwargs) == torch.bfloat16
    assert choose_precision("auto", denoise, LEVELS, fast=False, **kwargs) == torch.float32


def test_a_network_that_rounds_away_the_noise_it_is_to_see_is_refused():
    def denoise(x, sigma, precision):
        return x.to(precision).float()

    levels = ((0.005, 1.4e-5), (0.05, 2e-4), (0.5, 4e-3))
    loss = rounding_loss_db(denoise, levels[:1], torch.bfloat16, channels=1)
    assert loss > 10 * LIMIT_DB  # eight bits of 1 are 0.004, as large as the noise
    kwargs = {"channels": 1, "device": "cpu", "fast": True}
    assert choose_precision("auto", denoise, levels, **kwargs) == torch.float32


def test_the_first_convolution_sees_differences_that_half_precision_has_no_bits_for():
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(1, 1, (1, 2), bias=False).requires_grad_(False)
    layer.weight.copy_(torch.tensor([1.0, -1.0]).view(1, 1, 1, 2))
    x = 1 + 1e-3 * torch.randn(1, 1, 32, 32)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, kept = layer(x), _in_full_precision(layer, x)
    assert kept.dtype == torch.bfloat16
    assert float((kept - exact).norm() / exact.norm()) < 0.01
    assert float((rounded - exact).norm() / exact.norm()) > 0.5


def test_only_convolutions_are_rounded_not_the_image():
    prior = Slicewise(_model(), LEVELS, precision=torch.bfloat16)
    x = 1 + torch.rand(2, 16, 16) / 1000  # bfloat16 would make it 1
    out = prior(x, 1e-5)
    assert out.dtype == torch.float32
    assert torch.allclose(out, x, atol=1e-4)
    with autocast(torch.device("cpu"), torch.float32):
        assert torch.ones(2, 2).mm(torch.ones(2, 2)).dtype == torch.float32


class _Tape:
    """Records by remembering the function: replaying runs it again on the same memory."""

    def __init__(self):
        self.recorded = 0

    def __call__(self, launch):
        self.recorded += 1
        out = launch()
        return out, lambda: out.copy_(launch())


def test_a_replayed_network_gives_what_launching_it_gives():
    model, tape = _model(neighbours=True), _Tape()
    prior = Slicewise(model, LEVELS)
    graphed = Graphed(prior._forward, tape, limit=2)
    generator = torch.Generator().manual_seed(0)
    kept = []
    for shape in ((2, 16, 16), (3, 16, 16), (2, 16, 16), (1, 16, 16), (2, 16, 16)):
        x = torch.randn(shape, generator=generator)
        inputs = prior._inputs(x[:, None], 0, len(x), 0.3)
        kept.append((graphed(inputs), prior._forward(inputs)))
    # compared at the end: a later replay must not overwrite an earlier result
    assert all(torch.equal(replayed, launched) for replayed, launched in kept)
    assert tape.recorded == 2


def test_a_network_that_cannot_be_recorded_is_launched_after_one_warning():
    def refuse(launch):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    graphed = Graphed(lambda inputs: inputs[0] + 1, refuse)
    with pytest.warns(GraphWarning, match=r"stream is capturing\)") as seen:
        results = [graphed([torch.ones(2)]) for _ in range(3)]
    assert len(seen) == 1
    assert all(torch.equal(r, torch.full((2,), 2.0)) for r in results)


def test_memory_of_a_container_counts_where_it_is_smaller(tmp_path):
    assert devices._container_memory(tmp_path) == math.inf
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 300\n")
    assert devices._container_memory(tmp_path) == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert devices._container_memory(tmp_path) == math.inf
    assert devices.available_memory("cpu") > 0
