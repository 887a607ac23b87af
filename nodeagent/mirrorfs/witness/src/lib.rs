//! The witness client: GET and PUT of one `MirrorWitness` object over TLS. Decides nothing: the core says what to read and write.
//!
//! A GET carries no `resourceVersion`, so the API server answers by a quorum read. A PUT carries the expected one. The whole
//! exchange has one deadline, well below the lease. What is not plainly refused or stored is `Unknown`: the core resolves it by reading.
//! The nonce is on disk before the PUT because the core asks for the PUT only after `Event::Persisted`.

#![forbid(unsafe_code)]

pub mod http;
pub mod object;

use http::{Endpoint, Failure, Response};
use mirror_core::{Read, Record, Written};
use object::Object;
use std::path::PathBuf;
use std::sync::Mutex;

/// The client of one object.
pub struct Client {
    endpoint: Endpoint,
    path: String,
    token: PathBuf,
    last: Mutex<Option<Object>>,
}

impl Client {
    /// A client of `namespace/name`; the bearer token is read from `token` at each request, so that a renewed one is used.
    pub fn new(endpoint: Endpoint, namespace: &str, name: &str, token: PathBuf) -> Self {
        let path = format!("/apis/farmstead.dev/v1alpha1/namespaces/{namespace}/mirrorwitnesses/{name}");
        Client { endpoint, path, token, last: Mutex::new(None) }
    }

    /// Reads the record, by quorum.
    pub fn get(&self) -> Read {
        match self.exchange("GET", None) {
            Ok(Response { status: 200, body }) => self.keep(&body).map_or(Read::Unreachable, Read::Found),
            Ok(Response { status: 404, body }) if object::is_status(&body) => Read::Absent,
            Ok(_) | Err(_) => Read::Unreachable,
        }
    }

    /// Replaces the record if its version is `expect`. The object must have been read before: names of members come from it.
    pub fn put(&self, expect: u64, record: &Record) -> Written {
        let last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let Some(body) = last.and_then(|object| object.with(record, expect)) else { return Written::NotSent };
        match self.exchange("PUT", Some(&body)) {
            Ok(Response { status: 200, body }) => self.keep(&body).map_or(Written::Unknown, Written::Stored),
            Ok(Response { status: 409, .. }) => Written::Conflict,
            Ok(Response { status: 422, .. }) => Written::Refused,
            Err(Failure::Credential | Failure::Connect) => Written::NotSent,
            Ok(_) | Err(_) => Written::Unknown,
        }
    }

    fn exchange(&self, method: &str, body: Option<&str>) -> Result<Response, Failure> {
        let token = std::fs::read_to_string(&self.token).map_err(|_| Failure::Credential)?;
        self.endpoint.exchange(method, &self.path, token.trim(), body)
    }

    fn keep(&self, body: &str) -> Option<Record> {
        let object = Object::parse(body)?;
        let record = object.record()?;
        *self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(object);
        Some(record)
    }
}
