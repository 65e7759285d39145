"""The proof, after every change, that the signals of a model are measured."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s

from infra import proof
from infra.components.pod import PodArgs, node_selector, restricted_container, restricted_pod, tolerations
from infra.components.prometheus_access import TOKEN_KEY
from infra.components.scaler import DISCOVERY_SECONDS
from infra.signals import Signal, questions
from infra.workload import MANAGED_BY_LABEL, PART_OF_LABEL, Workload

SCRIPT = Path(proof.__file__)
SCRIPT_PATH, TOKEN_PATH = "/proof", "/token"
# Of a hash: what is asked, of whom, by which script.
DIGITS = 10
# Until Prometheus has two samples of a pod that it has just found: one scrape may fail, and each may be late by an interval.
SCRAPES = 4
# Above the times that are known: scheduling, a start, and an image that comes more slowly than it was said to.
MARGIN_SECONDS = 180


@dataclass(frozen=True, kw_only=True)
class SignalProofArgs:
    """Which signals, asked of which Prometheus; ``pod`` is the model's, whose nodes have the image.

    ``token_secret`` names the Secret with Prometheus' token. ``provisioning``: seconds until there is such a node, should the
    model sleep: others need not have the image's architecture, nor room for it. ``scrape_interval`` is in seconds.
    """

    workload: Workload
    signals: tuple[Signal, ...]
    prometheus_address: str
    token_secret: str | None
    pod: PodArgs
    provisioning: int
    scrape_interval: int
    namespace: pulumi.Input[str]
    after: tuple[pulumi.Resource, ...]

    @property
    def patience(self) -> int:
        """Seconds for which the script asks again."""
        return DISCOVERY_SECONDS + SCRAPES * self.scrape_interval

    @property
    def timeout(self) -> int:
        """Seconds for which the Job is awaited."""
        return self.provisioning + self.pod.model.timing.image_pull_seconds + self.patience + MARGIN_SECONDS


class SignalProof(pulumi.ComponentResource):
    """A Job that asks Prometheus each question of the autoscaler; the update fails where one has no single number for an answer.

    It comes before the ScaledObject: one that would see nothing never takes the place of one that does. Another question is
    another Job.
    """

    job: k8s.batch.v1.Job

    def __init__(self, name: str, args: SignalProofArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:SignalProof", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        asked = json.dumps(list(questions(args.signals, args.workload).items()))
        script = SCRIPT.read_text()
        digest = hashlib.sha256("\0".join((asked, args.prometheus_address, script)).encode()).hexdigest()[:DIGITS]
        labels = {PART_OF_LABEL: "llm-stack", MANAGED_BY_LABEL: "pulumi"}
        metadata = k8s.meta.v1.ObjectMetaArgs(
            name=f"{args.workload.name}-proof-{digest}", namespace=args.namespace, labels=labels
        )
        program = k8s.core.v1.ConfigMap(name, metadata=metadata, data={SCRIPT.name: script}, immutable=True, opts=child)
        self.job = k8s.batch.v1.Job(
            name,
            metadata=metadata,
            spec=k8s.batch.v1.JobSpecArgs(
                backoff_limit=0,  # what the script finds is final
                template=k8s.core.v1.PodTemplateSpecArgs(
                    metadata=k8s.meta.v1.ObjectMetaArgs(labels=labels),
                    spec=_pod(args, metadata, asked),
                ),
            ),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[program, *args.after],
                custom_timeouts=pulumi.CustomTimeouts(create=f"{args.timeout}s", update=f"{args.timeout}s"),
            ),
        )
        self.register_outputs({})


def _pod(args: SignalProofArgs, metadata: k8s.meta.v1.ObjectMetaArgs, asked: str) -> k8s.core.v1.PodSpecArgs:
    environment = {
        "PROMETHEUS": args.prometheus_address,
        "QUESTIONS": asked,
        "PATIENCE_SECONDS": str(args.patience),
    }
    script = k8s.core.v1.ConfigMapVolumeSourceArgs(name=metadata.name)
    volumes = [k8s.core.v1.VolumeArgs(name="proof", config_map=script)]
    mounts = [k8s.core.v1.VolumeMountArgs(name="proof", mount_path=SCRIPT_PATH, read_only=True)]
    if args.token_secret is not None:
        environment["TOKEN_FILE"] = f"{TOKEN_PATH}/{TOKEN_KEY}"
        secret = k8s.core.v1.SecretVolumeSourceArgs(secret_name=args.token_secret)
        volumes.append(k8s.core.v1.VolumeArgs(name="token", secret=secret))
        mounts.append(k8s.core.v1.VolumeMountArgs(name="token", mount_path=TOKEN_PATH, read_only=True))
    container = k8s.core.v1.ContainerArgs(
        name="proof",
        image=args.pod.own_image,
        command=["python", f"{SCRIPT_PATH}/{SCRIPT.name}"],
        env=[k8s.core.v1.EnvVarArgs(name=name, value=value) for name, value in environment.items()],
        resources=k8s.core.v1.ResourceRequirementsArgs(
            requests={"cpu": "10m", "memory": "32Mi"}, limits={"memory": "128Mi"}
        ),
        security_context=restricted_container(read_only_root=True),
        volume_mounts=mounts,
        # What has no answer stands in the update's error.
        termination_message_policy="FallbackToLogsOnError",
    )
    return k8s.core.v1.PodSpecArgs(
        restart_policy="Never",
        automount_service_account_token=False,
        enable_service_links=False,
        image_pull_secrets=[k8s.core.v1.LocalObjectReferenceArgs(name=secret) for secret in args.pod.pull_secrets]
        or None,
        node_selector=node_selector(args.pod),
        tolerations=tolerations(args.pod),
        security_context=restricted_pod(),
        containers=[container],
        volumes=volumes,
    )
