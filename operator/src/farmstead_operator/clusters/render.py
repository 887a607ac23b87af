"""From a cluster's spec to the complete instructions for one machine. Pure; the same input gives the same bytes.

Revisions are hashes of the content, so an agent that reports a revision has said exactly what it works from, and an
unchanged cluster renders to what is there already and costs no write.
"""

import hashlib
from collections.abc import Mapping
from functools import cache, lru_cache

import msgspec
from msgspec.structs import replace

from farmstead_api import FarmCluster
from farmstead_api.common import Application, ScriptText
from farmstead_api.member import ClusterReference, MemberListener, MemberOperation, MemberSpec, Override
from farmstead_operator.clusters.observed import Problem

STEPS = ("prestart", "start", "stop", "poststop", "drain", "startSecondary", "transition")
REQUIRED = ("start", "stop")
TEXT_LIMIT = 65536


@lru_cache(maxsize=2048)
def revision(content: msgspec.Struct) -> str:
    """Short hash of what a view says: equal views have equal ones, wherever they were read.

    Remembered: a cluster's Members are rendered at every pass, and mostly to what they were before.
    """
    return hashlib.sha256(msgspec.json.encode(_said(content), order="deterministic")).hexdigest()[:16]


def _said(value: object) -> object:
    """A view without its defaults, compared by value.

    The encoder leaves out only what is the default object itself: the same spec, once read from kopf's JSON and once
    from ours, would be two texts, and every Member be written again at each change of the reader.
    """
    if isinstance(value, msgspec.Struct):
        defaults = _defaults(type(value))
        fields = ((name, getattr(value, name)) for name in value.__struct_fields__)
        return {name: _said(one) for name, one in fields if name not in defaults or one != defaults[name]}
    if isinstance(value, Mapping):
        return {key: _said(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_said(one) for one in value]
    return value


@cache
def _defaults(kind: type[msgspec.Struct]) -> Mapping[str, object]:
    return {
        field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for field in msgspec.structs.fields(kind)
        if not field.required
    }


def carried(application: Application, config_map: Mapping[str, str] | None) -> Application | Problem:
    """The application with its ConfigMap replaced by its content."""
    scripts = application.scripts
    if scripts is None or scripts.config_map is None:
        return application
    name = scripts.config_map.name
    if config_map is None:
        return Problem("ConfigMapMissing", f"ConfigMap {name} is not there: create it in the cluster's namespace")
    missing = [step for step in REQUIRED if step not in config_map]
    if missing:
        return Problem("ConfigMapIncomplete", f"ConfigMap {name} has no {' and no '.join(missing)}: add it as a key")
    if long := [step for step in STEPS if len(config_map.get(step, "")) > TEXT_LIMIT]:
        return Problem(
            "ConfigMapTooLarge", f"ConfigMap {name}: {', '.join(long)} has more than {TEXT_LIMIT} characters"
        )
    files = tuple(ScriptText(name=step, text=config_map[step]) for step in STEPS if step in config_map)
    return replace(application, scripts=replace(scripts, config_map=None, files=files))


def render(
    cluster: FarmCluster,
    node: str,
    application: Application,
    *,
    operation: MemberOperation | None,
    override: Override | None,
) -> MemberSpec:
    """The instructions for the machine `node`.

    The cluster's uid is left out of the reference: a cluster that comes back (a restored etcd, a CRD applied again)
    goes on with the Members that it finds.
    """
    spec = cluster.spec
    drawn = MemberSpec(
        cluster_ref=ClusterReference(kind="FarmCluster", name=cluster.metadata.name),
        node_name=node,
        revision="",
        application=application,
        application_revision=revision(application),
        desired_state=spec.desired_state,
        deletion_policy=spec.deletion_policy,
        listeners=tuple(
            MemberListener(name=entry.name, port=entry.effective_backend_port, protocol=entry.protocol)
            for entry in spec.listeners
        ),
        probe=spec.probe,
        drain=spec.drain,
        checks=spec.checks,
        failover=spec.failover,
        maintenance=spec.maintenance,
        operation=operation,
        override=override,
    )
    return replace(drawn, revision=revision(drawn))
