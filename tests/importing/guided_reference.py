"""The network of guided-diffusion, read off its weights' names: an oracle without settings."""

import math
import re

import torch
from torch.nn import functional as F  # noqa: N812 - what everybody calls it


def outputs(weights, x, label, heads, new_order):
    """Apply the weights; ``heads`` takes the width of an attention layer."""

    def children(prefix):
        found = {m[1] for k in weights if (m := re.match(rf"{re.escape(prefix)}\.(\d+)\.", k))}
        return [f"{prefix}.{k}" for k in sorted(found, key=int)]

    def linear(name, v):
        return F.linear(v, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def conv(name, v, **options):
        w = weights[f"{name}.weight"]
        return F.conv2d(v, w, weights[f"{name}.bias"], padding=w.shape[-1] // 2, **options)

    def norm(name, v):
        return F.group_norm(v, 32, weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    def block(at, v, change):
        h = F.silu(norm(f"{at}.in_layers.0", v))
        h, v = change(h), change(v)
        h = conv(f"{at}.in_layers.2", h)
        told = linear(f"{at}.emb_layers.1", F.silu(embedding))[..., None, None]
        if told.shape[1] == 2 * h.shape[1]:
            scale, shift = told.split(h.shape[1], 1)
            h = norm(f"{at}.out_layers.0", h) * (1 + scale) + shift
        else:
            h = norm(f"{at}.out_layers.0", h + told)
        h = conv(f"{at}.out_layers.3", F.silu(h))
        return h + (
            conv(f"{at}.skip_connection", v) if f"{at}.skip_connection.bias" in weights else v
        )

    def attention(at, v):
        count, (batch, width, *size) = heads(v.shape[1]), v.shape
        each = width // count
        rows = torch.einsum(
            "oc,bcp->bop", weights[f"{at}.qkv.weight"][..., 0], norm(f"{at}.norm", v).flatten(2)
        )
        rows = rows + weights[f"{at}.qkv.bias"][:, None]
        out = []
        for h in range(count):
            starts = [(k * count + h if new_order else 3 * h + k) * each for k in range(3)]
            q, k, u = (rows[:, start : start + each] for start in starts)
            share = torch.softmax(torch.einsum("bcq,bck->bqk", q, k) / math.sqrt(each), -1)
            out.append(torch.einsum("bqk,bck->bcq", share, u))
        out = F.conv1d(
            torch.cat(out, 1), weights[f"{at}.proj_out.weight"], weights[f"{at}.proj_out.bias"]
        )
        return v + out.view(batch, width, *size)

    def down(v):
        return (v[..., ::2, ::2] + v[..., 1::2, ::2] + v[..., ::2, 1::2] + v[..., 1::2, 1::2]) / 4

    def up(v):
        return v.repeat_interleave(2, -1).repeat_interleave(2, -2)

    def stage(at, v, changes):
        for number, part in enumerate(children(at)):
            if f"{part}.in_layers.0.weight" in weights:
                v = block(
                    part, v, changes if changes and (changes is down or number) else lambda t: t
                )
            elif f"{part}.qkv.weight" in weights:
                v = attention(part, v)
            elif f"{part}.op.weight" in weights:
                v = conv(f"{part}.op", v, stride=2)
            elif f"{part}.conv.weight" in weights:
                v = conv(f"{part}.conv", up(v))
        return v

    base = weights["time_embed.0.weight"].shape[1]
    phase = label[:, None] * 10000 ** (-torch.arange(base // 2) / (base // 2))
    embedding = linear("time_embed.0", torch.cat([phase.cos(), phase.sin()], 1))
    embedding = linear("time_embed.2", F.silu(embedding))
    ends = children("output_blocks")
    # A level ends where a stage of the way up holds two residual blocks or a convolution.
    per_level, grown = [0], []
    for at in ends:
        per_level[-1] += 1
        layers = children(at)
        if any(f"{p}.conv.weight" in weights for p in layers) or (
            sum(f"{p}.in_layers.0.weight" in weights for p in layers) == 2
        ):
            grown.append(at)
            per_level.append(0)
    shrinking, k = set(), 0
    for count in per_level[:0:-1]:
        k += count
        shrinking.add(k)
    h = conv("input_blocks.0.0", x)
    skips = [h]
    for number, at in enumerate(children("input_blocks")[1:], 1):
        h = stage(at, h, down if number in shrinking else None)
        skips.append(h)
    h = stage("middle_block", h, None)
    for at in ends:
        h = stage(at, torch.cat([h, skips.pop()], 1), up if at in grown else None)
    return conv("out.2", F.silu(norm("out.0", h)))
