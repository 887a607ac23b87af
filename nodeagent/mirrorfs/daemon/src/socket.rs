//! The control socket: a UNIX socket in the state folder, one JSON object a line each way. `docs/mirrorfs-control.md` has the messages.
//!
//! Only root reaches it (0600). It passes orders on to the core and shows what the core says; it decides nothing.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mirror_core::ids::{NodeId, OperationId};
use mirror_core::{Event, Order};
use mirror_witness::object::uuid;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::hands::spawn;
use crate::keeper::Keeper;
use crate::log;
use crate::resync::Resync;
use crate::verify::Verify;

/// The version of the messages.
pub const VERSION: u64 = 1;
/// A longer line is no request.
const LINE_MAX: u64 = 1 << 16;

/// One request.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Request {
    /// Everything there is to say, once.
    Status,
    /// The same, now and after each change.
    Watch,
    /// The peer shall be primary.
    Switchover,
    /// The mirror on this machine stops; the peer goes on.
    Stop,
    /// Compares both copies, and mends what differs; answered when that is done.
    Verify {
        #[serde(default)]
        repair: bool,
    },
    /// The peer's copy of another lineage may be overwritten.
    Overwrite {
        /// It is kept first, or not overwritten.
        #[serde(default)]
        keep: bool,
    },
    /// Become primary without having been in sync.
    Force { operation: String, confirmed_off: bool, peer_lease_fresh: bool },
    /// The same without a witness, from somebody who has cut the peer's power.
    ForceLocal { operation: String },
    /// Another member takes the peer's place.
    ReplacePeer { uid: String },
    /// A person had the witness record created again.
    RecreatedWitness { uid: String },
    /// This connection is an agent's, as long as it is open.
    Agent,
    /// The application is stopped, as was wished.
    ApplicationStopped,
    /// What the agent finds: why the application answers no clients; left out: it does.
    Application { unready: Option<String> },
    /// The control groups of the application, which are frozen and killed.
    Cgroups { paths: Vec<PathBuf> },
}

/// Whom the socket speaks for.
#[derive(Clone)]
pub struct Parts {
    pub driver: Arc<Driver>,
    pub resync: Arc<Resync>,
    pub verify: Arc<Verify>,
    pub keeper: Arc<Keeper>,
}

/// Listens for as long as the process lives.
///
/// # Errors
/// A sentence that names the socket.
pub fn listen(path: &Path, parts: &Parts) -> Result<(), String> {
    let told = |error: std::io::Error| format!("control socket {}: {error}", path.display());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(told(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(told)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(told)?;
    let parts = parts.clone();
    spawn("control", move || {
        for socket in listener.incoming().flatten() {
            let parts = parts.clone();
            if let Err(reason) = spawn("asker", move || converse(&parts, socket)) {
                log::error("a control connection was refused", &[("reason", &reason)]);
            }
        }
    })
}

/// One connection's life.
fn converse(parts: &Parts, socket: UnixStream) {
    let Ok(reader) = socket.try_clone() else { return };
    let mut agent = false;
    // A caller that is gone needs no answer.
    let _ = exchange(parts, BufReader::new(reader), &socket, &mut agent);
    if agent {
        agent_came(&parts.driver, false);
    }
}

fn exchange(
    parts: &Parts,
    mut reader: BufReader<UnixStream>,
    mut socket: &UnixStream,
    agent: &mut bool,
) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        if std::io::Read::take(&mut reader, LINE_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        match serde_json::from_str::<Envelope>(&line) {
            Err(error) => say(&mut socket, &refusal(&error.to_string()))?,
            Ok(Envelope { version, .. }) if version != VERSION => {
                say(&mut socket, &refusal(&format!("version {version} is not spoken here, {VERSION} is")))?;
            }
            Ok(Envelope { request: Request::Watch, .. }) => return watch(parts, socket),
            Ok(Envelope { request, .. }) => {
                let first = matches!(request, Request::Agent) && !std::mem::replace(agent, true);
                if first {
                    agent_came(&parts.driver, true);
                }
                say(&mut socket, &answer(parts, request))?;
            }
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    version: u64,
    #[serde(flatten)]
    request: Request,
}

fn say(socket: &mut &UnixStream, value: &Value) -> std::io::Result<()> {
    socket.write_all(format!("{value}\n").as_bytes())
}

fn refusal(reason: &str) -> Value {
    json!({"version": VERSION, "ok": false, "error": reason})
}

fn shown(parts: &Parts) -> Value {
    // Asks a disk, so not with the core's lock.
    let (progress, verify) = (parts.resync.progress(), parts.verify.show());
    let inner = parts.driver.lock();
    let mut shown = inner.status.show(&inner.node, parts.driver.mounted(), progress);
    shown["verify"] = verify.into();
    shown["kept"] = parts.keeper.show();
    shown
}

/// With what takes time to find out, and what changes all the time.
fn status(parts: &Parts) -> Value {
    let mut shown = shown(parts);
    shown["outOfSyncBytes"] = parts.resync.out_of_sync().into();
    json!({"version": VERSION, "ok": true, "status": shown})
}

fn watch(parts: &Parts, mut socket: &UnixStream) -> std::io::Result<()> {
    let mut seen = None;
    loop {
        seen = Some(parts.driver.news(seen).status.version);
        say(&mut socket, &json!({"version": VERSION, "ok": true, "status": shown(parts)}))?;
    }
}

fn agent_came(driver: &Driver, came: bool) {
    let mut inner = driver.lock();
    if inner.status.agent_came(came) {
        let alive = inner.status.agent();
        driver.step(&mut inner, Event::Agent { alive });
    }
}

fn answer(parts: &Parts, request: Request) -> Value {
    let driver = &parts.driver;
    let id = |text: &str| uuid(text).ok_or_else(|| format!("{text:?} is no UUID"));
    let order = match request {
        Request::Status | Request::Watch | Request::Agent => return status(parts),
        Request::Verify { repair } => {
            log::info("verification", &[("repair", &repair)]);
            return match parts.verify.run(repair) {
                Ok(report) => json!({"version": VERSION, "ok": true, "verify": report}),
                Err(reason) => refusal(&reason),
            };
        }
        Request::ApplicationStopped => {
            driver.tell(Event::ApplicationStopped);
            return json!({"version": VERSION, "ok": true});
        }
        Request::Application { unready } => {
            driver.update(|status| status.application(unready));
            return json!({"version": VERSION, "ok": true});
        }
        Request::Cgroups { paths } => {
            return match driver.set_cgroups(paths) {
                Ok(()) => json!({"version": VERSION, "ok": true}),
                Err(reason) => refusal(&reason),
            };
        }
        Request::Switchover => Ok(Order::SwitchOver),
        Request::Stop => Ok(Order::Stop),
        Request::Overwrite { keep } => {
            driver.set_keep(keep);
            Ok(Order::Overwrite)
        }
        Request::Force { operation, confirmed_off, peer_lease_fresh } => {
            id(&operation).map(|id| Order::Force { operation: OperationId(id), confirmed_off, peer_lease_fresh })
        }
        Request::ForceLocal { operation } => id(&operation).map(|id| Order::ForceLocal { operation: OperationId(id) }),
        Request::ReplacePeer { uid } => id(&uid).map(|id| Order::ReplacePeer { new: NodeId(id) }),
        Request::RecreatedWitness { uid } => id(&uid).map(|uid| Order::RecreatedWitness { uid }),
    };
    match order {
        Err(reason) => refusal(&reason),
        Ok(order) => {
            log::info("ordered", &[("order", &format!("{order:?}"))]);
            let mut inner = driver.lock();
            let before = inner.status.notices();
            driver.step(&mut inner, Event::Order(order));
            // What the core says against it, it says at once.
            match inner.status.notice_since(before) {
                Some(reason) => refusal(&reason),
                None => json!({"version": VERSION, "ok": true}),
            }
        }
    }
}

/// Says one request to a daemon and prints what it answers: the program's own client.
///
/// # Errors
/// A sentence: nobody listens, or the order was refused.
pub fn ask(path: &Path, verb: &str, fields: Value) -> Result<Value, String> {
    let told = |error: std::io::Error| format!("{}: {error}: is the daemon running?", path.display());
    let socket = UnixStream::connect(path).map_err(told)?;
    let mut request = json!({"version": VERSION, "do": verb});
    if let (Some(request), Value::Object(fields)) = (request.as_object_mut(), fields) {
        request.extend(fields);
    }
    (&socket).write_all(format!("{request}\n").as_bytes()).map_err(told)?;
    let mut line = String::new();
    BufReader::new(&socket).read_line(&mut line).map_err(told)?;
    let answer: Value = serde_json::from_str(&line).map_err(|error| format!("{}: {error}", path.display()))?;
    match answer["error"].as_str() {
        Some(reason) => Err(reason.into()),
        None => Ok(answer),
    }
}
