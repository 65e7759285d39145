import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """What these tests compute is too small to share between cores."""
    torch.set_num_threads(1)
