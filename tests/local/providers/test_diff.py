"""Differences as the engine shows them, and what refresh makes of a live object."""

from typing import Any

import pytest

from local.providers.kubernetes.diff import Change, differences
from local.providers.kubernetes.drift import imported, inputs_now

Json = dict[str, Any]


def test_every_changed_leaf_is_named_with_its_path() -> None:
    old = {"metadata": {"labels": {"a.b/c": "1", "d": "2"}}, "spec": {"containers": [{"image": "x"}, {"image": "y"}]}}
    new = {"metadata": {"labels": {"a.b/c": "3"}, "name": "n"}, "spec": {"containers": [{"image": "z"}]}}
    found = {(one.path, one.change, one.replaces) for one in differences(old, new, ("spec.containers",))}
    assert found == {
        ('metadata.labels["a.b/c"]', Change.UPDATE, False),
        ("metadata.labels.d", Change.DELETE, False),
        ("metadata.name", Change.ADD, False),
        ("spec.containers[0].image", Change.UPDATE, True),
        ("spec.containers[1]", Change.DELETE, True),
    }


def test_fixed_path_is_no_prefix_of_a_longer_name() -> None:
    (found,) = differences({"spec": {"selectorless": 1}}, {"spec": {"selectorless": 2}}, ("spec.selector",))
    assert not found.replaces


@pytest.mark.parametrize(
    ("wanted", "live", "now"),
    [
        ({"a": 1}, {"a": 1, "added": "by the server"}, {"a": 1}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1, "b": 2}, {"a": 1}, {"a": 1}),
        ({"a": {"b": {}}}, {"a": {}}, {"a": {"b": {}}}),  # the server leaves empty values out
        ({"cpu": "1000m"}, {"cpu": "1"}, {"cpu": "1000m"}),
        ({"memory": "1024Mi"}, {"memory": "1Gi"}, {"memory": "1024Mi"}),
        ({"memory": "1000Mi"}, {"memory": "1Gi"}, {"memory": "1Gi"}),
        ({"list": [{"a": 1}]}, {"list": [{"a": 1, "default": True}]}, {"list": [{"a": 1}]}),
        ({"list": [1]}, {"list": [1, 2]}, {"list": [1, 2]}),
    ],
)
def test_only_our_own_values_drift(wanted: Json, live: Json, now: Json) -> None:
    assert inputs_now(wanted, live) == now


def test_secret_is_compared_by_its_text() -> None:
    live = {"kind": "Secret", "data": {"key": "aHVzaA==", "added": "eA=="}}
    assert inputs_now({"kind": "Secret", "stringData": {"key": "hush"}}, live)["stringData"] == {"key": "hush"}
    assert inputs_now({"kind": "Secret", "stringData": {"key": "other"}}, live)["stringData"] == {"key": "hush"}


def test_imported_inputs_are_what_somebody_wrote() -> None:
    live = {
        "kind": "ConfigMap",
        "metadata": {"name": "c", "uid": "1", "resourceVersion": "2", "labels": {"a": "b"}},
        "data": {"a": "b"},
        "status": {"x": 1},
    }
    assert imported(live) == {"kind": "ConfigMap", "metadata": {"name": "c", "labels": {"a": "b"}}, "data": {"a": "b"}}
