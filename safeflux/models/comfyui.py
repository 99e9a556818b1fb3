"""What ComfyUI takes a file of weights for, told from its header alone.

ComfyUI cannot be installed as a library, so its rules are written down here, as they were read in ``comfy/model_detection.py``,
``comfy/ldm/flux/model.py`` and ``comfy/supported_models.py`` (Comfy-Org/ComfyUI at 0b61ce5):

- More than five names that begin with "model.diffusion_model." make that a prefix, which is taken off.
- ``double_blocks.0.img_attn.norm.key_norm.scale`` (or ``.weight``) and ``img_in.weight`` make it a FLUX.
- Its width is that of ``img_in``, and again of ``txt_in``; a head has 16 + 56 + 56 numbers, so that the width has to be a multiple of 128.
- Blocks are counted from names, up to the first number that is missing.
- ``guidance_in.in_layer.weight`` tells dev, which is fed a guidance, from schnell.
- Every feed-forward layer is then built four times as wide as the model, whatever is in the file; a tensor of another shape stops loading.
"""

from __future__ import annotations

from collections.abc import Mapping

from safeflux.errors import ModelError

HEAD = 128
_PREFIX = "model.diffusion_model."


def detect(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int | bool]:
    """ComfyUI's picture of a FLUX from the shape of each tensor: ``width``, ``heads``, ``channels``, ``text``, ``vector``, ``double``,
    ``single``, ``guidance``. Raises ModelError where ComfyUI would find no FLUX, or fail to load it."""
    prefix = _PREFIX if sum(name.startswith(_PREFIX) for name in shapes) > 5 else ""
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    key = "double_blocks.0.img_attn.norm.key_norm."
    if not {f"{key}scale", f"{key}weight"} & own.keys() or "img_in.weight" not in own:
        raise ModelError("ComfyUI finds no FLUX in it: it looks for img_in.weight and the key norm of double_blocks.0")
    width = own["txt_in.weight"][0]
    found: dict[str, int | bool] = {
        "width": width, "heads": width // HEAD, "channels": own["img_in.weight"][1] // 4, "text": own["txt_in.weight"][1],
        "vector": own["vector_in.in_layer.weight"][1], "double": _count(own, "double_blocks"), "single": _count(own, "single_blocks"),
        "guidance": "guidance_in.in_layer.weight" in own,
    }  # fmt: skip
    if width % HEAD or not width:
        raise ModelError(f"ComfyUI builds no FLUX of width {width}; wanted a multiple of {HEAD}")
    for name, shape in _built(found, width).items():
        if own.get(name) != shape:
            raise ModelError(f"ComfyUI builds {name} as {shape}; the file has {own.get(name, 'none')}")
    return found


def _count(own: Mapping[str, tuple[int, ...]], blocks: str) -> int:
    n = 0
    while any(name.startswith(f"{blocks}.{n}.") for name in own):
        n += 1
    return n


def _built(found: Mapping[str, int | bool], w: int) -> dict[str, tuple[int, ...]]:
    """The layers whose shapes follow from the width alone."""
    built: dict[str, tuple[int, ...]] = {"img_in.weight": (w, int(found["channels"]) * 4)}
    for n in range(int(found["double"])):
        for stream in ("img", "txt"):
            at = f"double_blocks.{n}.{stream}"
            built |= {f"{at}_mod.lin.weight": (6 * w, w), f"{at}_attn.qkv.weight": (3 * w, w), f"{at}_attn.proj.weight": (w, w)}
            built |= {f"{at}_mlp.0.weight": (4 * w, w), f"{at}_mlp.2.weight": (w, 4 * w)}
    for n in range(int(found["single"])):
        at = f"single_blocks.{n}"
        built |= {f"{at}.linear1.weight": (7 * w, w), f"{at}.linear2.weight": (w, 5 * w), f"{at}.modulation.lin.weight": (3 * w, w)}
    return built
