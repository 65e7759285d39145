import pytest
import torch

from service.engine import varlen
from tests.service.engine.paged import by_the_book


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """What these tests compute is too small to share between cores."""
    torch.set_num_threads(1)


@pytest.fixture
def paged_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are computed as on a GPU that has the paged kernel."""
    monkeypatch.setattr(varlen, "varlen_attn", by_the_book)
    monkeypatch.setattr(varlen, "available", lambda *_: True)
