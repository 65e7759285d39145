"""The variables with which everything finds everything else."""

import pytest

from local.environment import without_proxy


def test_a_users_proxy_is_kept_from_the_cluster_and_the_rest_of_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "intranet.example")
    monkeypatch.delenv("NO_PROXY", raising=False)
    said = without_proxy()
    assert said["no_proxy"].split(",")[0] == "intranet.example"
    for name in said:
        assert {"localhost", "10.222.0.1", "10.96.0.0/16", ".svc"} <= set(said[name].split(","))
        monkeypatch.setenv(name, said[name])
    assert without_proxy() == said
