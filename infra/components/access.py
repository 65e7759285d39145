"""Who may use a model: its API keys."""

import base64
import secrets
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra.config.schema import GeneratedKey, GivenKeys
from infra.runtime import FIRST_KEY, KEYS_FILE, api_keys_secret, keys_of
from infra.workload import Workload

# As many random bytes as OpenAI's own keys hold at least; nobody guesses 256 bits.
KEY_BYTES = 32
# What secret scanners look for, so that a key that leaks into a repository is found.
KEY_PREFIX = "sk-"


@dataclass(frozen=True, kw_only=True)
class ApiKeysArgs:
    """Whose keys, and where they come from."""

    workload: Workload
    source: GeneratedKey | GivenKeys
    namespace: pulumi.Input[str]


class ApiKeys(pulumi.ComponentResource):
    """The Secret with a model's keys, one per line."""

    secret: k8s.core.v1.Secret
    keys: pulumi.Output[str]  # a secret
    version: pulumi.Output[str | None]  # another one after each change; tells nothing of the keys

    def __init__(self, name: str, args: ApiKeysArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:ApiKeys", name, None, opts)
        workload = args.workload
        match args.source:
            case GivenKeys(keys=given):
                # Another resource than that of a generated key, which would keep what these say.
                resource, keys, ignored = f"{name}-given", given, []
            case GeneratedKey():
                # Drawn anew by each run of the program; only the first one's is ever used.
                resource, keys, ignored = name, f"{KEY_PREFIX}{secrets.token_urlsafe(KEY_BYTES)}", ["data"]
        data = {KEYS_FILE: _encoded(keys), FIRST_KEY: _encoded(keys_of(keys)[0])}
        self.secret = k8s.core.v1.Secret(
            resource,
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=api_keys_secret(workload, args.source), namespace=args.namespace, labels=workload.labels
            ),
            data=pulumi.Output.secret(data),
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=ignored),
        )
        self.keys = self.secret.data.apply(lambda stored: base64.b64decode(stored[KEYS_FILE]).decode())
        self.version = self.secret.metadata.resource_version
        self.register_outputs({})


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
