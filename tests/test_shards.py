"""One shard is open at a time, whoever asks for what in which order."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_signed
from transformers import T5EncoderModel

import safeflux
from safeflux import shards as module
from safeflux.errors import ModelError
from safeflux.shards import Shard, Shards, listed
from safeflux_signing import keys
from safeflux_signing.sign import sign


@dataclass
class Log:
    """The names of the files that are open ``now``, and of all that were ``ever`` opened, in order."""

    now: list[str] = field(default_factory=list)
    ever: list[str] = field(default_factory=list)


class File:
    """An open file of weights, until it is let go."""

    def __init__(self, name: str, weights: dict[str, torch.Tensor], log: Log) -> None:
        self.name, self.weights, self.log = name, weights, log
        log.now.append(name)
        log.ever.append(name)
        assert len(log.now) == 1

    def __del__(self) -> None:
        self.log.now.remove(self.name)

    def keys(self) -> list[str]:
        return list(self.weights)

    def metadata(self) -> dict[str, str]:
        return {"of": self.name}

    def get_slice(self, weight: str) -> Any:
        value = self.weights[weight]

        class Read:
            def __getitem__(self, index: Any) -> torch.Tensor:
                return value[index]

            def get_shape(self) -> list[int]:
                return list(value.shape)

            def get_dtype(self) -> str:
                return "F32"

        return Read()


@pytest.fixture
def log() -> Log:
    return Log()


def make(shards: Shards, log: Log, count: int, each: int = 8) -> list[Shard]:
    """Shards "0", "1"... with the weights "0/0", "0/1"..., of which each is full of a number of its own."""

    def one(name: str) -> Shard:
        weights = {f"{name}/{number}": torch.full((2, 3), 100.0 * int(name) + number) for number in range(each)}
        return Shard(shards, name, weights, lambda: File(name, weights, log))

    return [one(str(number)) for number in range(count)]


def test_nothing_is_opened_until_a_weight_is_asked_for(log: Log) -> None:
    shards = Shards([])
    first, second = make(shards, log, 2)
    with first as entered:
        slices = [entered.get_slice(name) for name in list(entered.keys())]
        assert log.ever == []
        assert (slices[1].get_shape(), slices[1].get_dtype(), entered.metadata()) == ([2, 3], "F32", {"of": "0"})
        assert torch.equal(slices[7][...], torch.full((2, 3), 7.0))
        assert torch.equal(slices[7][0, 1:], torch.full((2,), 7.0))
        assert torch.equal(entered.get_tensor("0/3"), torch.full((2, 3), 3.0))
        assert log.ever == log.now == ["0"]
    assert log.now == []
    assert torch.equal(second.get_slice("1/0")[...], torch.full((2, 3), 100.0))
    assert log.ever == ["0", "1"]


def test_what_is_handed_out_is_a_copy(log: Log) -> None:
    shards = Shards([])
    value = torch.zeros(3)
    shard = Shard(shards, "x", ["x"], lambda: File("x", {"x": value}, log))
    shard.get_tensor("x").fill_(1)
    assert torch.equal(value, torch.zeros(3))
    lasting = Shard(shards, "y", ["x"], lambda: File("y", {"x": value}, log), lasting=True)
    assert lasting.get_tensor("x").data_ptr() == value.data_ptr(), "unless what is read has memory of its own"


def test_of_threads_those_that_are_late_are_waited_for(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which transformers asks for them; without waiting, some come when their shard has been closed."""
    monkeypatch.setattr(module, "_STRAGGLERS", 60)  # nobody waits as long, however busy the machine is
    for _ in range(20):
        log.ever.clear()
        shards = Shards(failed := [])
        every = [(shard, name) for shard in make(shards, log, 6) for name in list(shard.keys())]
        with ThreadPoolExecutor(4) as pool:
            read = list(pool.map(lambda one: one[0].get_slice(one[1])[...].mean().item(), every))
        assert read == [100.0 * int(shard.name) + int(name.partition("/")[2]) for shard, name in every]
        assert sorted(log.ever) == list("012345")
        assert failed == []
        shards.close()
        assert log.now == []


def test_whoever_asks_in_another_order_is_served_too(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STRAGGLERS", 0)
    shards = Shards([])
    first, second = make(shards, log, 2)
    for shard, name in ((first, "0/0"), (second, "1/0"), (first, "0/1"), (second, "1/1")):
        assert shard.get_tensor(name)[0, 0] == 100 * int(shard.name) + int(name[-1])
    assert log.ever == ["0", "1", "0", "1"]


def test_errors_are_noted_for_those_that_pass_over_them(log: Log) -> None:
    shards = Shards(failed := [])
    first, second = make(shards, log, 2)
    lying = Shard(shards, "lying.safetensors", ["0/0", "absent"], first.open)
    for ask in (lambda: lying.get_tensor("0/0"), lambda: first.get_tensor("absent")):
        with pytest.raises((ModelError, KeyError)):
            ask()
    shards.close(for_good=True)
    with pytest.raises(ModelError, match="after the model had been loaded"):
        second.get_tensor("1/0")
    assert [type(error) for error in failed] == [ModelError, KeyError, ModelError]
    assert "lying.safetensors holds other weights" in str(failed[0])
    assert log.ever == ["0", "0"]


def test_the_index_says_what_a_shard_is(tmp_path: Path) -> None:
    for name, places in (
        ("model.safetensors.index.json", {"a": "1.safetensors", "b": "2.safetensors", "c": "1.safetensors"}),
        ("model.safetensors.index.fp16.json", {"d": "1.fp16.safetensors", "e": "2.fp16.safetensors"}),
        ("other.safetensors.index.json", {"f": "single.safetensors"}),
    ):
        (tmp_path / name).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert listed(tmp_path / "1.safetensors") == ["a", "c"]
    assert listed(tmp_path / "2.fp16.safetensors") == ["e"]
    assert listed(tmp_path / "single.safetensors") is None
    assert listed(tmp_path / "model.safetensors") is None
    assert listed(tmp_path / "nowhere" / "1.safetensors") is None


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_text_encoder_in_shards_is_the_one_on_the_disk(tiny_signed: Path, dtype: torch.dtype) -> None:
    """Also where some weights stay in float32, as T5's do in float16."""
    mine = safeflux.load(tiny_signed, trust=tiny_signed.parent / "publisher.pub", dtype=dtype).text_encoder_2
    stock = T5EncoderModel.from_pretrained(tiny_signed / "text_encoder_2", dtype=dtype)
    found, expected = mine.state_dict(), stock.state_dict()
    assert {name: value.dtype for name, value in found.items()} == {name: value.dtype for name, value in expected.items()}
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert mine.shared.weight.data_ptr() == mine.encoder.embed_tokens.weight.data_ptr()
    words = torch.tensor([[3, 7, 1]])
    assert torch.equal(mine(words)[0], stock(words)[0])


@pytest.mark.usefixtures("way")
def test_shards_that_hold_something_else_than_their_index_says_are_refused(tiny: Path, tmp_path: Path) -> None:
    """Else a weight that no shard is asked for would be drawn at random, with no more than a warning."""
    release = make_signed(tiny, tmp_path)
    first = sorted((release / "text_encoder_2").glob("*.safetensors"))[0]
    save_file({**load_file(first), "more": torch.zeros(1)}, first, {"format": "pt"})
    sign(release, keys.load_private(release.parent / "publisher.key"), release_id="tiny-1.1", sequence=2)
    with pytest.raises(ModelError, match=rf"{first.name} holds other weights than the index"):
        safeflux.load(release, trust=release.parent / "publisher.pub")
