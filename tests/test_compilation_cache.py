import os

import jax.monitoring

from memorax.experiments.run.program import cache_hits
from tests.compilation_cache import forget_oldest


def test_the_oldest_programs_are_forgotten_and_no_others(tmp_path):
    for age in range(6):
        file = tmp_path / f"{age}-cache"
        file.write_bytes(b"." * 10)
        os.utime(file, (1000 - age, 1000 - age))
    forget_oldest(tmp_path, 60)
    assert len(list(tmp_path.iterdir())) == 6
    forget_oldest(tmp_path, 35)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0-cache", "1-cache", "2-cache"]
    forget_oldest(tmp_path / "none", 35)


def test_programs_found_in_the_cache_are_counted():
    before = cache_hits()
    jax.monitoring.record_event("/jax/compilation_cache/cache_misses")
    assert cache_hits() == before
    jax.monitoring.record_event("/jax/compilation_cache/cache_hits")
    assert cache_hits() == before + 1
