"""NCSN++ written as one pass over numbered modules, weights drawn as they are first asked for.

It follows the published description (Song et al. 2021, arXiv:2011.13456, appendix H) and the names
and order of modules in public checkpoints, and shares nothing with the network under test: filters
are sums of shifted images, 1x1 layers and attention are einsums.  Its outputs were compared with
those of the public code once, in all the settings of the tests.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812 - what everybody calls it

SQRT2 = math.sqrt(2)
ACTIVATIONS = {"swish": F.silu, "elu": F.elu}


@dataclass(frozen=True)
class Settings:
    nf: int = 8
    ch_mult: tuple[int, ...] = (1, 2)
    num_res_blocks: int = 1
    attn_resolutions: tuple[int, ...] = (8,)
    image_size: int = 16
    num_channels: int = 1
    embedding_type: str = "fourier"
    conditional: bool = True
    resblock_type: str = "biggan"
    resamp_with_conv: bool = True
    fir: bool = True
    skip_rescale: bool = True
    progressive: str = "none"
    progressive_input: str = "none"
    progressive_combine: str = "sum"
    scale_by_sigma: bool = True
    centered: bool = False
    nonlinearity: str = "swish"
    sigma_min: float = 0.01
    sigma_max: float = 50.0
    num_scales: int = 50
    sde: str = "vesde"
    continuous: bool = True

    def as_config(self):
        """The settings in the sections that score_sde has."""
        data = ("image_size", "num_channels", "centered")
        training = ("sde", "continuous")
        everything = vars(self)
        return {
            "data": {key: everything[key] for key in data},
            "training": {key: everything[key] for key in training},
            "model": {k: v for k, v in everything.items() if k not in (*data, *training)},
        }


class Reference:
    def __init__(self, settings, seed=0, device="cpu"):
        self.s, self.device = settings, device
        self.generator = torch.Generator().manual_seed(seed)
        self.weights = {}
        levels = torch.linspace(
            math.log(settings.sigma_max), math.log(settings.sigma_min), settings.num_scales
        )
        self.sigmas = levels.double().exp()
        size = settings.image_size
        zeros = torch.zeros(1, settings.num_channels, size, size, device=device)
        self(zeros, torch.ones(1, device=device))

    def checkpoint(self, apart=0.1):
        """As score_sde saves: names of DataParallel, averaged weights as a list.

        These lie ``apart`` from the last ones; from here on, this network has them.
        """
        trained = [name for name in self.weights if name != "all_modules.0.W"]
        averaged = [
            self.weights[name] + apart * self._draw(self.weights[name].shape) for name in trained
        ]
        model = {"module.sigmas": self.sigmas.to(self.device)}
        model |= {f"module.{key}": value for key, value in self.weights.items()}
        ema = {"decay": 0.999, "num_updates": 7, "shadow_params": averaged}
        self.weights |= dict(zip(trained, averaged, strict=True))
        return {"optimizer": {"state": {}}, "model": model, "ema": ema, "step": 7}

    def _draw(self, shape):
        if self.device == "meta":
            return torch.empty(shape, device="meta")
        return torch.randn(shape, generator=self.generator)

    # --- pieces, which count modules as they go ---

    def _weight(self, name, *shape, mean=0.0, scale=0.2):
        key = f"all_modules.{self.at}{name}"
        if key not in self.weights:
            self.weights[key] = mean + scale * self._draw(shape)
        return self.weights[key]

    def _conv(self, x, name, out, kernel=3, **options):
        scale = 0.7 / kernel / math.sqrt(x.shape[1])
        w = self._weight(f"{name}.weight", out, x.shape[1], kernel, kernel, scale=scale)
        b = self._weight(f"{name}.bias", out)
        return F.conv2d(x, w, b, **({"padding": kernel // 2} | options))

    def _dense(self, x, name, out):
        w = self._weight(f"{name}.weight", out, x.shape[1])
        return x @ w.T + self._weight(f"{name}.bias", out)

    def _norm(self, x, name):
        channels = x.shape[1]
        w = self._weight(f"{name}.weight", channels, mean=1.0)
        b = self._weight(f"{name}.bias", channels)
        return F.group_norm(x, min(channels // 4, 32), w, b, eps=1e-6)

    def _nin(self, x, name, out):
        w, b = self._weight(f"{name}.W", x.shape[1], out), self._weight(f"{name}.b", out)
        return torch.einsum("bchw,cd->bdhw", x, w) + b[:, None, None]

    def _sum(self, a, b):
        return (a + b) / SQRT2 if self.s.skip_rescale else a + b

    def _fir(self, x, before, after):
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        padded = F.pad(x, (before, after, before, after))
        height, width = padded.shape[2] - 3, padded.shape[3] - 3
        return sum(
            taps[i] * taps[j] * padded[:, :, i : i + height, j : j + width]
            for i in range(4)
            for j in range(4)
        )

    def _down(self, x):
        if self.s.fir:
            return self._fir(x, 1, 1)[:, :, ::2, ::2]
        return (
            x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]
        ) / 4

    def _up(self, x):
        if not self.s.fir:
            return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        zeros = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
        zeros[:, :, ::2, ::2] = x
        return 4 * self._fir(zeros, 2, 1)

    def _block(self, x, out, resample=None):
        act = ACTIVATIONS[self.s.nonlinearity]
        biggan, inputs = self.s.resblock_type == "biggan", x.shape[1]
        h = act(self._norm(x, ".GroupNorm_0"))
        if resample is not None:
            h, x = resample(h), resample(x)
        h = self._conv(h, ".Conv_0", out)
        dense = self._dense(act(self.temb), ".Dense_0", out)
        if self.s.conditional:
            h = h + dense[:, :, None, None]
        h = self._conv(act(self._norm(h, ".GroupNorm_1")), ".Conv_1", out)
        if biggan and (inputs != out or resample is not None):
            x = self._conv(x, ".Conv_2", out, kernel=1)
        elif inputs != out:
            x = self._nin(x, ".NIN_0", out)
        self.at += 1
        return self._sum(x, h)

    def _attend(self, x):
        channels = x.shape[1]
        h = self._norm(x, ".GroupNorm_0")
        q, k, v = (self._nin(h, f".NIN_{n}", channels) for n in range(3))
        logits = torch.einsum("bchw,bcij->bhwij", q, k) / math.sqrt(channels)
        w = logits.flatten(3).softmax(-1).view_as(logits)
        out = self._nin(torch.einsum("bhwij,bcij->bchw", w, v), ".NIN_3", channels)
        self.at += 1
        return self._sum(x, out)

    def _plain(self, piece, x, *arguments):
        done = piece(x, "", *arguments)
        self.at += 1
        return done

    def _convolved_down(self, x, out):
        if self.s.fir:
            smooth = self._fir(x, 2, 2)
            done = self._conv(smooth, ".Conv2d_0", out, stride=2, padding=0)
        else:
            padded = F.pad(x, (0, 1, 0, 1))
            done = self._conv(padded, ".Conv_0", out, stride=2, padding=0)
        self.at += 1
        return done

    def _embed(self, label):
        nf = self.s.nf
        if self.s.embedding_type == "fourier":
            frequencies = self._weight(".W", nf, scale=16.0)
            phase = 2 * math.pi * label.log()[:, None] * frequencies
            self.at += 1
        else:
            steps = torch.arange(nf // 2, device=label.device)
            phase = label[:, None] * torch.exp(-math.log(10_000) / (nf // 2 - 1) * steps)
        return torch.cat([phase.sin(), phase.cos()], dim=1)

    # --- the pass ---

    def __call__(self, x, label):
        s, self.at = self.s, 0
        act, levels = ACTIVATIONS[s.nonlinearity], len(s.ch_mult)
        biggan = s.resblock_type == "biggan"
        self.temb = self._embed(label)
        if s.conditional:
            self.temb = self._plain(self._dense, self.temb, 4 * s.nf)
            self.temb = self._plain(self._dense, act(self.temb), 4 * s.nf)
        else:
            self.temb = x.new_zeros(len(x), 4 * s.nf)
        image = x if s.centered else 2 * x - 1
        skips = [self._plain(self._conv, image, s.nf)]
        for level, multiplier in enumerate(s.ch_mult):
            attends = s.image_size // 2**level in s.attn_resolutions
            for _ in range(s.num_res_blocks):
                h = self._block(skips[-1], s.nf * multiplier)
                skips.append(self._attend(h) if attends else h)
            if level == levels - 1:
                break
            h = skips[-1]
            if biggan:
                h = self._block(h, h.shape[1], self._down)
            elif s.resamp_with_conv:
                h = self._convolved_down(h, h.shape[1])
            else:
                h, self.at = self._down(h), self.at + 1
            if s.progressive_input == "input_skip":
                image = self._down(image)
                joined = self._conv(image, ".Conv_0", h.shape[1], kernel=1)
                self.at += 1
                h = joined + h if s.progressive_combine == "sum" else torch.cat([joined, h], 1)
            elif s.progressive_input == "residual":
                h = image = self._sum(self._convolved_down(image, h.shape[1]), h)
            skips.append(h)
        h = skips[-1]
        h = self._block(self._attend(self._block(h, h.shape[1])), h.shape[1])
        gathered = None
        for level in reversed(range(levels)):
            for _ in range(s.num_res_blocks + 1):
                h = self._block(torch.cat([h, skips.pop()], 1), s.nf * s.ch_mult[level])
            if s.image_size // 2**level in s.attn_resolutions:
                h = self._attend(h)
            if s.progressive == "output_skip":
                part = act(self._plain(self._norm, h))
                part = self._plain(self._conv, part, s.num_channels)
                gathered = part if gathered is None else self._up(gathered) + part
            if level and biggan:
                h = self._block(h, h.shape[1], self._up)
            elif level and s.resamp_with_conv:
                h = self._conv(self._up(h), ".Conv_0", h.shape[1])
                self.at += 1
            elif level:
                h, self.at = self._up(h), self.at + 1
        if gathered is None:
            gathered = act(self._plain(self._norm, h))
            gathered = self._plain(self._conv, gathered, s.num_channels)
        if not s.scale_by_sigma:
            return gathered
        sigma = label if s.embedding_type == "fourier" else self.sigmas[label.long()].float()
        return gathered / sigma[:, None, None, None]
