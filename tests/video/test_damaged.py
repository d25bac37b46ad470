"""Files that were cut or altered: frames or one sentence, soon, and never anything else."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motion.errors import MotionError
from motion.video import open_clip, read_parameters
from tests.support.damaged import SUFFIXES, damage, whole_files

SHARE = st.floats(0, 1)
MOST_PIXELS = 1 << 20
"""Few enough that a file whose size was altered takes no time."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return whole_files(tmp_path_factory.mktemp("whole"))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motion.video.pictures.MOST_PIXELS", MOST_PIXELS)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(cut=SHARE | st.just(1.0), altered=st.lists(st.tuples(SHARE, st.integers(0, 255)), max_size=6))
@settings(max_examples=25, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_are_frames_or_a_sentence(
    tmp_path: Path, whole: dict[str, bytes], suffix: str, cut: float, altered: list[tuple[float, int]]
) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(damage(whole[suffix], cut, altered))
    looks = (
        lambda: islice(open_clip(path).frames(), 50),
        lambda: open_clip(path).glimpses(range(0, min(open_clip(path).count(), 50), 3)),
        lambda: [read_parameters(path)],
    )
    for look in looks:
        try:
            found = list(look())
        except MotionError as error:
            assert path.name in str(error)
        else:
            assert all(part is None or isinstance(part, str) or 0 < part[..., 0].size <= MOST_PIXELS for part in found)
