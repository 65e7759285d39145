"""What the tests of the benchmarks share."""

from pathlib import Path

import pytest

from bench import model


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmarks' model, small, but written by the same code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "HIDDEN", 64)
        patch.setattr(model, "LAYERS", 2)
        return model.provide(tmp_path_factory.mktemp("model"))
