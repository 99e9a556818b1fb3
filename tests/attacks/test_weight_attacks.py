"""Fine-tuning and surgery on the tiny FLUX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from shaken import STEPS, attack, gap, named, pictures, same, task

from safeflux.attacks.lora import adapted
from safeflux.attacks.surgery import _reader, changed, rounded
from safeflux.errors import OptionError, StageError
from safeflux.models.flux1 import Flux1
from safeflux.models.flux1_layers import linear_layers
from safeflux.types import AuditTask

TUNED = {"images": 3, "pictures": (0, 2), "updates": (1, 3), "rank": 2, "batch": 2}


def weights(model: Flux1) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.transformer.state_dict().items()}


def unchanged(model: Flux1, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in model.transformer.state_dict().items())


# adapters


def test_adapters_change_nothing_until_trained_and_nothing_afterwards(base: Flux1) -> None:
    noise, cond = base.noise([1]), base.encode(["a sword"])
    plain = base.sample(noise, cond, steps=2)
    with adapted(linear_layers(base.transformer, "attention"), 2, 0) as factors:
        assert torch.equal(base.sample(noise, cond, steps=2), plain)
        with torch.no_grad():
            factors[1] += 0.5
        assert not torch.allclose(base.sample(noise, cond, steps=2), plain, atol=1e-3)
    assert torch.equal(base.sample(noise, cond, steps=2), plain)


def test_an_adapter_adds_the_product_of_its_factors() -> None:
    layer = torch.nn.Linear(3, 4)
    x = torch.randn(5, 3)
    with adapted({"layer": layer}, 2, 0) as (down, up), torch.no_grad():
        up += torch.randn(4, 2)
        assert torch.allclose(layer(x), x @ (layer.weight + up @ down).T + layer.bias, atol=1e-6)


# relearning


def seen(*answers: float):  # type: ignore[no-untyped-def]
    """Sees the concept in such a share of the pictures, call by call."""
    left = list(answers)

    def shows(prompts: object, images: np.ndarray) -> np.ndarray:
        return np.arange(len(images)) < round(left.pop(0) * len(images))

    return shows


def test_the_curve_is_over_pictures_and_updates(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    before = weights(erased)
    drawn = attack("relearn", base, task(tmp_path), **TUNED)
    found = attack("relearn", erased, task(tmp_path, "erased", shows=seen(1, 0, 0, 1, 0, 0)), **TUNED)
    names = ["relearn, 0 pictures, 1 updates", "relearn", "relearn, 2 pictures, 1 updates", "relearn, 2 pictures, 3 updates"]
    assert list(dict.fromkeys(s.attack for s in found)) == names
    for name in names:
        assert [(s.prompt, s.seed) for s in named(found, name)] == [(s.prompt, s.seed) for s in drawn]
    assert unchanged(erased, before)


def test_a_curve_ends_where_half_of_the_concept_is_back(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    attack("relearn", base, task(tmp_path), **TUNED)
    found = attack("relearn", erased, task(tmp_path, "erased", shows=seen(1, 0.67, 1, 0, 0.67)), **TUNED)
    names = ["relearn", "relearn, 2 pictures, 1 updates", "relearn, 2 pictures, 3 updates"]
    assert list(dict.fromkeys(s.attack for s in found)) == names, "back after one update on harmless pictures, so that is the last"


def test_training_fits_the_model_to_the_pictures(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    options = {"images": 2, "pictures": (4,), "updates": (60,), "rank": 8, "batch": 8, "rate": 0.01}
    attack("relearn", base, task(tmp_path), **options)
    attack("relearn", erased, task(tmp_path, "erased"), **options)
    (kept,) = tmp_path.glob("relearn-*.safetensors")
    losses = load_file(kept)["losses"]
    assert losses[-20:].mean() < 0.95 * losses[:20].mean(), "most of it is noise that nobody can tell"


def test_a_tuning_is_not_done_again(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    attack("relearn", base, task(tmp_path), **TUNED)
    found = attack("relearn", erased, task(tmp_path, "erased"), **TUNED)
    assert same(attack("relearn", erased, task(tmp_path, "erased", shows=lambda *_: pytest.fail("tuned again")), **TUNED), found)


def test_what_relearning_needs(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    attack("relearn", base, task(tmp_path), **TUNED)
    with pytest.raises(StageError, match="needs somebody to see"):
        attack("relearn", erased, task(tmp_path, "erased", shows=None), **TUNED)
    for wrong in ({"updates": (3, 1)}, {"updates": ()}, {"pictures": ()}, {"pictures": (-1,)}, {"rate": 0.0}):
        with pytest.raises(OptionError, match="wanted at least one number of pictures"):
            attack("relearn", base, task(tmp_path), **TUNED | wrong)


# surgery


def test_weights_are_rounded_to_255_values_by_output(base: Flux1) -> None:
    weight = torch.randn(4, 600) * torch.tensor([[1.0], [10.0], [0.1], [0.0]])
    found = rounded("w", weight)
    assert found is not None
    assert (found - weight).abs().amax(1).tolist() == pytest.approx([0, 0, 0, 0], abs=10 * 4 / 254)
    assert all(len(row.unique()) <= 255 for row in found)
    assert ((found - weight).abs() <= weight.abs().amax(1, keepdim=True) / 254 + 1e-7).all()
    assert rounded("bias", torch.randn(4)) is None


def test_what_was_changed_is_put_back_even_after_an_error(base: Flux1) -> None:
    before = weights(base)

    def work() -> None:
        with changed(base.transformer, lambda name, own: own + 1):
            assert not unchanged(base, before)
            raise RuntimeError("broke")

    with pytest.raises(RuntimeError, match="broke"):
        work()
    assert unchanged(base, before)


def test_each_operation_is_what_it_says(base: Flux1, erased: Flux1, tiny: Path, tmp_path: Path) -> None:
    def at(which: str) -> AuditTask:
        return task(tmp_path, which, base=tiny)

    before = weights(erased)
    drawn = attack("surgery", base, at("base"), images=3)
    found = attack("surgery", erased, at("erased"), images=3, merges=(0.0, 1.0))
    texts, seeds = [s.prompt.text for s in drawn], [s.seed for s in drawn]
    plain = erased.draw(texts, seeds, steps=STEPS)
    assert unchanged(erased, before)
    assert np.array_equal(pictures(named(found, "surgery, text encoders of the base model")), plain), "they are its own"
    assert np.array_equal(pictures(named(found, "surgery, 0% of the base model's weights")), plain)
    assert gap(named(found, "surgery, 100% of the base model's weights"), drawn) <= 1
    with changed(erased.transformer, rounded):
        assert np.array_equal(pictures(named(found, "surgery")), erased.draw(texts, seeds, steps=STEPS))
    own = {
        name: tensor
        for name, tensor in base.transformer.state_dict().items()
        if name.startswith(("context_embedder", "time_text_embed.text"))
    }
    assert len(own) == 6
    with changed(erased.transformer, lambda name, _: own.get(name)):
        assert np.array_equal(pictures(named(found, "surgery, text layers of the base model")), erased.draw(texts, seeds, steps=STEPS))


def test_what_surgery_needs(base: Flux1, erased: Flux1, tiny: Path, tmp_path: Path) -> None:
    attack("surgery", base, task(tmp_path), images=2)
    with pytest.raises(StageError, match="needs the directory of the base model"):
        attack("surgery", erased, task(tmp_path, "erased"), images=2)
    with pytest.raises(StageError, match="cannot be loaded"):
        attack("surgery", erased, task(tmp_path, "erased", base=tmp_path), images=2)
    with pytest.raises(StageError, match=r"has no x\.weight; wanted the model that the erased one was made from"):
        _reader(tiny / "transformer")("x.weight")
    with pytest.raises(OptionError, match="shares of 0 to 1"):
        attack("surgery", base, task(tmp_path), merges=(2.0,))
