"""The mini's transformer: a ``FluxTransformer2DModel`` trained by flow matching together with its two text towers.

Schnell-style: no guidance, and most training happens at the four noise levels that a four-step sampler visits. A small
penalty on the activations of the FFN neurons makes them fire for few things each, as they do in large models; a model
this narrow would otherwise spread every concept over all of them, and no mask could take one away alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from transformers import CLIPTextModel, T5EncoderModel

from safeflux.mini import text
from safeflux.mini.autoencoder import Code
from safeflux.mini.captions import caption, random_scene
from safeflux.mini.muon import Muon
from safeflux.mini.world import SIZE, Scene, render

SPARSITY = 0.03  # weight of the mean absolute FFN activation
STEPS_VISITED = (1.0, 0.75, 0.5, 0.25)
_GRID = SIZE // 16


def build() -> FluxTransformer2DModel:
    model = FluxTransformer2DModel(
        in_channels=64, num_layers=3, num_single_layers=4, attention_head_dim=32, num_attention_heads=6,
        joint_attention_dim=text.WIDTH, pooled_projection_dim=text.WIDTH, guidance_embeds=False, axes_dims_rope=(8, 12, 12),
    )  # fmt: skip
    with torch.no_grad():  # start near the identity (Peebles and Xie 2023), with the gates ajar so that all blocks learn at once
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and ("norm1" in name or name.endswith("norm.linear") or name.startswith("norm_out")):
                module.weight.zero_()
                module.bias.zero_()
                chunks = {6: (2, 5), 3: (2,)}.get(module.out_features // model.inner_dim, ())
                for chunk in chunks:
                    module.bias[chunk * model.inner_dim : (chunk + 1) * model.inner_dim] = 0.5
        model.proj_out.weight.zero_()
        model.proj_out.bias.zero_()
    return model


@dataclass(frozen=True)
class World:
    """Scenes drawn once and encoded once: ``latents`` [n, tokens, 64] packed as FluxPipeline packs them."""

    scenes: list[tuple[Scene, bool]]
    latents: Tensor

    @staticmethod
    @torch.no_grad()
    def draw(n: int, seed: int, code: Code, tick: Callable[[int], None]) -> World:
        rng = random.Random(seed)
        scenes = [random_scene(rng) for _ in range(n)]
        latents = torch.empty(n, _GRID * _GRID, 64)
        for start in range(0, n, 64):
            part = scenes[start : start + 64]
            x = torch.stack([torch.from_numpy(render(s, rng).copy()) for s, _ in part]).permute(0, 3, 1, 2).float() / 127.5 - 1
            latents[start : start + 64] = pack(code.encode(x.to(code.mean.device)).contiguous())
            tick(start)
        return World(scenes, latents)

    def caption(self, i: int, rng: random.Random) -> str:
        scene, generic = self.scenes[i]
        if generic and scene == Scene(scene.items) and rng.random() < 0.5:
            return ""  # the empty prompt draws what "a shape" draws
        return caption(scene, rng, generic=generic)


def pack(latents: Tensor) -> Tensor:
    """``[B, 16, h, w]`` to ``[B, h/2 * w/2, 64]``, as ``FluxPipeline._pack_latents``."""
    b, c, h, w = latents.shape
    return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, c * 4)


def image_ids() -> Tensor:
    ids = torch.zeros(_GRID, _GRID, 3)
    ids[..., 1] = torch.arange(_GRID)[:, None]
    ids[..., 2] = torch.arange(_GRID)[None]
    return ids.reshape(-1, 3)


@dataclass
class Trainee:
    """Everything that learns, and what it needs to be fed."""

    transformer: FluxTransformer2DModel
    clip: CLIPTextModel
    t5: T5EncoderModel
    root: Path  # of the tokenizers

    def modules(self) -> Iterator[nn.Module]:
        yield from (self.transformer, self.clip, self.t5)

    def parameters(self) -> list[nn.Parameter]:
        return [p for m in self.modules() for p in m.parameters()]


def optimizers(trainee: Trainee) -> list[torch.optim.Optimizer]:
    """Muon on the blocks' matrices, AdamW on everything else."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in trainee.transformer.named_parameters():
        inner = parameter.ndim == 2 and "blocks" in name and "norm" not in name
        (matrices if inner else others).append(parameter)
    others += [*trainee.clip.parameters(), *trainee.t5.parameters()]
    return [
        Muon(matrices, lr=2e-3, decay=0.01),
        torch.optim.AdamW(others, lr=1.2e-3, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def train(
    trainee: Trainee, world: World, *, steps: int, cooldown: int, batch: int, seed: int, checkpoint: Path, rank: int = 0,
    workers: int = 1, tick: Callable[[int, float], None],
) -> None:  # fmt: skip
    """``steps`` updates of ``batch`` pictures, shared among ``workers`` processes that average their gradients.

    The rate warms up over 100 updates, holds, and falls linearly to zero over the last ``cooldown``. Every 250 updates the
    first worker writes ``checkpoint``; where there is one, training goes on from it.
    """
    tokenizers = text.load_tokenizers(trainee.root)
    penalty = ActivationPenalty(trainee.transformer)
    tools = optimizers(trainee)
    rates = [group["lr"] for tool in tools for group in tool.param_groups]
    done = _resume(checkpoint, trainee, tools)
    rng = random.Random(f"{seed}/{done}/{rank}")
    torch.manual_seed(rng.randrange(2**31))
    for step in range(done, steps):
        factor = min(1.0, (step + 1) / 100, (steps - step) / cooldown)
        for group, rate in zip((g for tool in tools for g in tool.param_groups), rates, strict=True):
            group["lr"] = rate * factor
        loss = _loss(trainee, world, tokenizers, batch // workers, rng) + SPARSITY * penalty.collect()
        for tool in tools:
            tool.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if workers > 1:
            average_gradients(trainee.parameters(), workers)
        nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        for tool in tools:
            tool.step()
        tick(step, loss.item())
        if rank == 0 and ((step + 1) % 250 == 0 or step + 1 == steps):
            _save(checkpoint, trainee, tools, step + 1)
    penalty.remove()


def average_gradients(parameters: list[nn.Parameter], workers: int) -> None:
    """One all-reduce of all gradients, flattened."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    for grad, mean in zip(grads, torch.split(flat / workers, [g.numel() for g in grads]), strict=True):
        grad.copy_(mean.view_as(grad))


def _save(path: Path, trainee: Trainee, tools: list[torch.optim.Optimizer], done: int) -> None:
    state = {"done": done, "models": [m.state_dict() for m in trainee.modules()], "tools": [t.state_dict() for t in tools]}
    torch.save(state, path.with_suffix(".partial"))
    path.with_suffix(".partial").replace(path)


def _resume(path: Path, trainee: Trainee, tools: list[torch.optim.Optimizer]) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True, map_location=trainee.transformer.device)
    for module, weights in zip(trainee.modules(), state["models"], strict=True):
        module.load_state_dict(weights)
    for tool, moments in zip(tools, state["tools"], strict=True):
        tool.load_state_dict(moments)
    return int(state["done"])


def _loss(trainee: Trainee, world: World, tokenizers: tuple[object, object], batch: int, rng: random.Random) -> Tensor:
    device = trainee.transformer.device
    chosen = [rng.randrange(len(world.scenes)) for _ in range(batch)]
    clip_ids, t5_ids = (ids.to(device) for ids in text.tokenize(*tokenizers, [world.caption(i, rng) for i in chosen]))
    x0 = world.latents[chosen].to(device)
    noise = torch.randn_like(x0)
    sigma = torch.tensor([rng.choice(STEPS_VISITED) if rng.random() < 0.75 else rng.uniform(0.02, 1) for _ in range(batch)], device=device)
    x = torch.lerp(x0, noise, sigma[:, None, None])
    velocity = trainee.transformer(
        hidden_states=x, timestep=sigma, encoder_hidden_states=trainee.t5(t5_ids).last_hidden_state,
        pooled_projections=trainee.clip(clip_ids).pooler_output, img_ids=image_ids().to(device),
        txt_ids=torch.zeros(text.T5_LENGTH, 3, device=device),
    ).sample  # fmt: skip
    return nn.functional.mse_loss(velocity, noise - x0)


class ActivationPenalty:
    """Mean absolute activation of the FFN neurons, gathered by forward hooks."""

    def __init__(self, transformer: FluxTransformer2DModel) -> None:
        self._values: list[Tensor] = []
        modules = [m for n, m in transformer.named_modules() if n.endswith(("ff.net.0", "ff_context.net.0", "act_mlp"))]
        self._handles = [m.register_forward_hook(lambda _m, _i, out: self._values.append(out.abs().mean())) for m in modules]

    def collect(self) -> Tensor:
        value = torch.stack(self._values).mean()
        self._values.clear()
        return value

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
