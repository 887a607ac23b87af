//! The `MirrorWitness` object as JSON, and its record as the core sees it. Names of members stay on this side of the border.

use mirror_core::ids::{Generation, Incarnation, Lineage, NodeId, Nonce, OperationId};
use mirror_core::{Holder, Record};
use serde_json::{Value, json};

/// An object as it was read.
#[derive(Clone, Debug)]
pub struct Object(Value);

/// Whether this body is the API server's own word, and not that of something in between.
pub fn is_status(body: &str) -> bool {
    serde_json::from_str::<Value>(body).is_ok_and(|value| value["kind"] == "Status" && value["reason"] == "NotFound")
}

impl Object {
    /// From a body.
    pub fn parse(body: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(body).ok()?;
        (value["kind"] == "MirrorWitness").then_some(Object(value))
    }

    fn uid_of(&self, name: &str) -> Option<NodeId> {
        let members = self.0["spec"]["members"].as_array()?;
        let member = members.iter().find(|member| member["name"] == name)?;
        uuid(member["nodeUID"].as_str()?).map(NodeId)
    }

    fn name_of(&self, node: NodeId) -> Option<&str> {
        let members = self.0["spec"]["members"].as_array()?;
        let is = |member: &&Value| member["nodeUID"].as_str().and_then(uuid) == Some(node.0);
        members.iter().find(is)?["name"].as_str()
    }

    /// The record in it; `None` if it is none that the protocol knows.
    pub fn record(&self) -> Option<Record> {
        let (meta, spec) = (&self.0["metadata"], &self.0["spec"]);
        let members = spec["members"].as_array()?;
        let member = |i: usize| members.get(i).and_then(|m| uuid(m["nodeUID"].as_str()?)).map(NodeId);
        let primary = spec["primary"].as_str()?;
        let holders = spec["inSync"].as_array()?.iter().map(|entry| {
            let inc = Incarnation { boot: uuid(entry["boot"].as_str()?)?, process: uuid(entry["process"].as_str()?)? };
            Some(Holder { node: self.uid_of(entry["name"].as_str()?)?, inc })
        });
        let holders = holders.collect::<Option<Vec<_>>>()?;
        let node = self.uid_of(primary)?;
        let unknown = Holder { node, inc: Incarnation::default() };
        Some(Record {
            uid: uuid(meta["uid"].as_str()?)?,
            version: meta["resourceVersion"].as_str()?.parse().ok()?,
            members: [member(0)?, member(1)?],
            generation: Generation(spec["generation"].as_u64()?),
            primary: holders.iter().find(|holder| holder.node == node).copied().unwrap_or(unknown),
            other: holders.iter().find(|holder| holder.node != node).copied(),
            lineage: Lineage(uuid(spec["lineage"].as_str()?)?),
            nonce: nonce(spec["nonce"].as_str()?),
            forced: spec["forced"].as_str().and_then(uuid).map(OperationId),
        })
    }

    /// The body of a PUT that makes `record` of this object, if its version is `expect`.
    pub fn with(&self, record: &Record, expect: u64) -> Option<String> {
        let mut value = self.0.clone();
        value["metadata"]["resourceVersion"] = json!(expect.to_string());
        let named = |node: NodeId| {
            // A member that is new has no name here yet: the Operation names it by its UID.
            self.name_of(node).map_or_else(|| print(node.0), str::to_owned)
        };
        let holder = |holder: Holder| json!({"name": named(holder.node), "boot": print(holder.inc.boot), "process": print(holder.inc.process)});
        let member = |node: NodeId| json!({"name": named(node), "nodeUID": print(node.0)});
        let in_sync: Vec<Value> = [Some(record.primary), record.other].into_iter().flatten().map(holder).collect();
        let spec = value["spec"].as_object_mut()?;
        spec.insert("members".into(), record.members.map(member).to_vec().into());
        spec.insert("generation".into(), record.generation.0.into());
        spec.insert("primary".into(), named(record.primary.node).into());
        spec.insert("inSync".into(), in_sync.into());
        spec.insert("lineage".into(), print(record.lineage.0).into());
        spec.insert("nonce".into(), format!("{}.{}", print(record.nonce.process), record.nonce.count).into());
        match record.forced {
            Some(operation) => drop(spec.insert("forced".into(), print(operation.0).into())),
            None => drop(spec.remove("forced")),
        }
        Some(value.to_string())
    }
}

/// The operator's own nonce is no node's: it reads as the empty one, which no node ever proposes.
fn nonce(text: &str) -> Nonce {
    let parsed = text
        .split_once('.')
        .and_then(|(process, count)| Some(Nonce { process: uuid(process)?, count: count.parse().ok()? }));
    parsed.unwrap_or_default()
}

/// 128 bits from their usual spelling.
pub fn uuid(text: &str) -> Option<u128> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    (digits.len() == 32 && text.len() == 36).then(|| u128::from_str_radix(&digits, 16).ok()).flatten()
}

/// The usual spelling of 128 bits.
pub fn print(bits: u128) -> String {
    let digits = format!("{bits:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"kind": "MirrorWitness", "metadata": {"uid": "00000000-0000-0000-0000-000000000007",
        "resourceVersion": "42", "name": "shop", "finalizers": ["farmstead.dev/witness"]},
        "spec": {"generation": 3, "primary": "vm1", "lineage": "00000000-0000-0000-0000-000000000009", "nonce": "operator",
        "members": [{"name": "vm1", "nodeUID": "00000000-0000-0000-0000-000000000001"},
                    {"name": "vm2", "nodeUID": "00000000-0000-0000-0000-000000000002"}],
        "inSync": [{"name": "vm2", "boot": "00000000-0000-0000-0000-000000000003",
                    "process": "00000000-0000-0000-0000-000000000004"},
                   {"name": "vm1", "boot": "00000000-0000-0000-0000-000000000005",
                    "process": "00000000-0000-0000-0000-000000000006"}]}}"#;

    #[test]
    fn a_record_survives_the_way_there_and_back() {
        let object = Object::parse(BODY).expect("an object");
        let record = object.record().expect("a record");
        assert_eq!(
            (record.primary.node, record.primary.inc.boot, record.other.map(|o| o.node)),
            (NodeId(1), 5, Some(NodeId(2)))
        );
        let next =
            Record { other: None, forced: Some(OperationId(8)), ..record.successor(Nonce { process: 6, count: 2 }) };
        let body = object.with(&next, 42).expect("a body");
        let back = Object::parse(&body).and_then(|object| object.record()).expect("a record");
        assert_eq!(back, next);
        assert!(body.contains("farmstead.dev/witness"), "what is not ours is kept");
    }

    #[test]
    fn what_is_no_record_is_not_guessed_at() {
        assert!(Object::parse("{}").is_none() && Object::parse("<html>").is_none());
        let odd = BODY.replace("\"primary\": \"vm1\"", "\"primary\": \"vm9\"");
        assert!(Object::parse(&odd).expect("an object").record().is_none());
        assert!(!is_status("404 page not found") && is_status(r#"{"kind":"Status","reason":"NotFound"}"#));
    }
}
