"""What is written for the parts of a data centre: the operator's settings, an agent's file, objects. Pure text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from testbed.azure.client import EmulatorAdmin
from testbed.azure.emulator import AzureEmulator

RESOURCE_GROUP = "shop-prod"
VIRTUAL_NETWORK = "shop"


def azure_settings(azure: EmulatorAdmin | AzureEmulator, *, network_id: str) -> dict[str, Any]:
    """The part of the operator's settings that says where Azure is: the emulator, reached by the unchanged SDK."""
    return {
        "subscriptionID": azure.subscription_id,
        "resourceGroup": RESOURCE_GROUP,
        "location": "eastus",
        "virtualNetworkID": network_id,
        "credential": "WorkloadIdentity",
        "tenantID": azure.tenant_id,
        "clientID": azure.client_id,
        "tokenFile": azure.federated_token_file,
        "authority": azure.authority,
        "endpoint": azure.endpoint,
        "caFile": azure.ca_file,
    }


def operator_settings(*, azure: EmulatorAdmin, kubeconfig: Path, network_id: str, extra: Mapping[str, Any]) -> str:
    """The operator's settings file."""
    settings: dict[str, Any] = {
        "kubeconfig": str(kubeconfig),
        "azure": azure_settings(azure, network_id=network_id),
    }
    for section, values in extra.items():
        settings[section] = settings.get(section, {}) | values if isinstance(values, dict) else values
    return yaml.safe_dump(settings)


AGENT_FILE = """\
# The machine's own file: who this agent is, and what clusters may do here.
node = "{name}"
kubeconfig = "{kubeconfig}"

[allow]
namespaces = ["shop"]
carried_scripts = true

[metrics]
address = "0.0.0.0"
"""


def farm_node(name: str, *, zone: str, address: str, labels: Mapping[str, str], namespaces: list[str]) -> Any:
    """The FarmNode of a machine."""
    return {
        "apiVersion": "farmstead.dev/v1alpha1",
        "kind": "FarmNode",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {
            "zone": zone,
            "addresses": [{"name": "default", "address": address}],
            "allowedNamespaces": namespaces,
        },
    }
