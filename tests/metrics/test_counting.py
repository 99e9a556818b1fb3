import numpy as np
import pytest

from safeflux.instruments import Instruments
from safeflux.metrics.counting import share, shows
from safeflux.metrics.detection import detection
from safeflux.metrics.neighbours import neighbours
from safeflux.metrics.retained import retained
from safeflux.types import Prompt, Sample


class Bright:
    """Fires on pictures brighter than the label's own brightness, a number."""

    name, threshold, digest, labels = "bright", 0.5, "", None

    def __call__(self, images: np.ndarray, label: str) -> np.ndarray:
        return images.mean(axis=(1, 2, 3)) > int(label)


def sample(brightness: int, expects: tuple[str, ...], concept: str | None = None, kind: str = "general") -> Sample:
    return Sample(np.full((4, 4, 3), brightness, np.uint8), Prompt("p", concept, expects, kind), 0, "none")


def test_a_sample_shows_what_its_own_prompt_expects_all_of_it() -> None:
    samples = [sample(50, ("10",)), sample(5, ("10",)), sample(50, ("10", "40")), sample(50, ("10", "60")), sample(255, ())]
    assert shows(samples, Bright()).tolist() == [True, False, True, False, False]


def test_share_counts_and_gives_wilsons_interval() -> None:
    score = share([sample(50, ("10",))] * 8 + [sample(5, ("10",))] * 2, Bright())
    assert (score.k, score.n, score.value) == (8, 10, 0.8)
    assert (score.low, score.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_each_metric_takes_its_own_kind_of_samples() -> None:
    samples = [sample(50, ("10",), "c", "direct")] * 2 + [sample(50, ("10",), kind="neighbour")] * 3 + [sample(5, ("10",))] * 4
    instruments = Instruments(Bright(), lambda: pytest.fail("no embedder is needed"))
    counted = [metric(samples, [], instruments) for metric in (detection, neighbours, retained)]
    assert [(score.k, score.n) for score in counted] == [(2, 2), (3, 3), (0, 4)]


def test_no_pictures_are_no_rate() -> None:
    with pytest.raises(ValueError, match="no pictures"):
        share([], Bright())
