//! What people and the agent are told: role, what the core said last, what is wanted of the application.

use std::collections::VecDeque;

use mirror_core::resync::Resync as Core;
use mirror_core::{Node, Notice, RoleName, Time};
use serde_json::{Value, json};

use crate::clock;
use crate::log;
use crate::resync::Told;

/// How many notices are kept.
const NOTICES: usize = 16;

/// What the core wants of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Wish {
    /// It runs nowhere on this machine.
    #[default]
    Absent,
    /// Start it, if it does not run.
    Run,
    /// Stop it in good order, then say so.
    Stop,
    /// It was killed.
    Killed,
    /// It was killed and the mount is gone: the `poststop` script's turn.
    PostStop,
}

impl Wish {
    fn name(self) -> &'static str {
        match self {
            Wish::Absent => "absent",
            Wish::Run => "run",
            Wish::Stop => "stop",
            Wish::Killed => "killed",
            Wish::PostStop => "postStop",
        }
    }
}

/// What is kept to be told.
#[derive(Default)]
pub struct Status {
    /// Grows with every change: whoever watches looks again.
    pub version: u64,
    wish: Wish,
    /// What the agent said of the application since it was to run: why it answers no clients, or (empty) that it does.
    said: Option<String>,
    agents: usize,
    notices: VecDeque<String>,
    told: u64,
    witness: String,
    since: Option<Time>,
}

impl Status {
    /// The core says something to people.
    pub fn note(&mut self, notice: &Notice) {
        let text = told(notice);
        log::info("notice", &[("notice", &text)]);
        if self.notices.len() == NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(text.into());
        self.told += 1;
        self.version += 1;
    }

    /// How many notices there were so far.
    pub fn notices(&self) -> u64 {
        self.told
    }

    /// The first notice after so many.
    pub fn notice_since(&self, before: u64) -> Option<String> {
        let fresh = usize::try_from(self.told - before).unwrap_or(usize::MAX).min(self.notices.len());
        self.notices.iter().rev().take(fresh).next_back().cloned()
    }

    /// Role or generation changed.
    pub fn changed(&mut self, now: Time) {
        self.since = Some(now);
        self.version += 1;
    }

    /// What the core wants of the application now.
    pub fn wish(&mut self, wish: Wish) {
        self.said = None;
        self.wish = wish;
        self.version += 1;
    }

    /// What the agent says of the application: why it answers no clients, or that it does.
    pub fn application(&mut self, unready: Option<String>) {
        self.said = Some(unready.unwrap_or_default());
        self.version += 1;
    }

    /// Why the application answers no clients; `None`: it does, as far as anybody knows.
    pub fn unready(&self) -> Option<&str> {
        match (self.wish, self.said.as_deref()) {
            (Wish::Run, Some("")) => None,
            (Wish::Run, None) => self.agent().then_some("the application starts"),
            (Wish::Run, Some(reason)) => Some(reason),
            _ => Some("the application is not to run here"),
        }
    }

    /// How the last exchange with the witness ended.
    pub fn witness(&mut self, told: &str) {
        if self.witness != told {
            self.witness = told.into();
            self.version += 1;
        }
    }

    /// Whether an agent is there.
    pub fn agent(&self) -> bool {
        self.agents > 0
    }

    /// One agent more, or one less. Returns whether that makes a difference.
    pub fn agent_came(&mut self, came: bool) -> bool {
        let before = self.agent();
        self.agents = if came { self.agents + 1 } else { self.agents - 1 };
        self.version += 1;
        before != self.agent()
    }

    /// All of it, as the control socket shows it.
    pub fn show(&self, node: &Node, mounted: bool, resync: Option<Told>) -> Value {
        let now = clock::now();
        let seconds = |span: i64| span as f64 / 1_000.0;
        let until = node.serves_until().map(|until| until.0);
        let lease = until.filter(|until| *until < i64::MAX).map(|until| seconds((until - now.0).max(0)));
        let durable = node.durable();
        let peer = node.peer_view().map(|(view, heard)| {
            json!({"role": role_name(view.role), "generation": view.held.0, "heardSecondsAgo": seconds((now - heard).0)})
        });
        let resync = node.resync().map(|core| progress(core, resync));
        json!({
            "role": role_name(node.role()),
            "shown": classic(node),
            "generation": durable.generation.0,
            "fence": durable.fence.0,
            "lineage": mirror_witness::object::print(durable.lineage.0),
            "incarnation": mirror_witness::object::print(node.incarnation().process),
            "serving": until.is_some_and(|until| now.0 < until),
            "leaseLeftSeconds": lease,
            "sinceSeconds": self.since.map(|since| seconds((now - since).0)),
            "mounted": mounted,
            "inconsistent": durable.inconsistent,
            "outdated": durable.outdated,
            "outOfSyncObjects": node.touched().map(|touched| touched.len()),
            "peer": peer,
            "resync": resync,
            "witness": self.witness,
            "application": self.wish.name(),
            "unready": self.unready(),
            "agent": self.agent(),
            "halted": node.halted(),
            "notices": self.notices,
        })
    }
}

/// How far a resync is.
fn progress(core: &Core, resync: Option<Told>) -> Value {
    let left = core.left() + core.copies.len();
    let mut told = json!({"phase": format!("{:?}", core.phase), "session": core.session, "objectsLeft": left,
                          "walking": core.walking});
    if let (Some(told), Some((progress, trouble))) = (told.as_object_mut(), resync) {
        let remaining = progress.remaining(left as u64, core.walking).map(|time| time.as_secs_f64());
        told.extend([
            ("seconds".into(), progress.elapsed.as_secs_f64().into()),
            ("remainingSeconds".into(), remaining.into()),
            ("inodesCompared".into(), progress.compared.into()),
            ("inodesAtMost".into(), progress.to_compare.into()),
            ("bytesRead".into(), progress.read.into()),
            ("objectsCopied".into(), progress.copied.into()),
            ("bytesAsked".into(), progress.asked.into()),
            ("bytesSent".into(), progress.sent.into()),
            ("trouble".into(), trouble.into()),
        ]);
    }
    told
}

/// A role's name, as in the protocol.
pub fn role_name(role: RoleName) -> &'static str {
    match role {
        RoleName::Stop => "STOP",
        RoleName::Wait => "WAIT",
        RoleName::Second => "SECOND",
        RoleName::Prim => "PRIM",
        RoleName::Frozen => "FROZEN",
        RoleName::Alone => "ALONE",
        RoleName::Join => "JOIN",
        RoleName::Taking => "TAKING",
    }
}

/// What users see: the five classic states, and how ready.
fn classic(node: &Node) -> Value {
    let (state, ready) = match node.role() {
        RoleName::Stop => ("STOP", "notReady"),
        RoleName::Wait if node.halted().is_some() => ("WAIT", "notReady"),
        RoleName::Wait => ("WAIT", "transient"),
        RoleName::Second => ("SECOND", "ready"),
        RoleName::Prim => ("PRIM", "ready"),
        RoleName::Frozen => ("PRIM", "notReady"),
        RoleName::Alone => ("ALONE", "ready"),
        RoleName::Join => ("ALONE", "ready"),
        RoleName::Taking => ("SECOND", "transient"),
    };
    json!({"state": state, "ready": ready})
}

fn told(notice: &Notice) -> &'static str {
    match notice {
        Notice::Halted(reason) | Notice::Refused(reason) => reason,
        Notice::MayMiss => {
            "taken over after an operating system crash: what was not synced at the last moment may be missing"
        }
        Notice::DiskFailed => "the disk of this machine failed: this copy counts no more",
        Notice::OtherLineage => {
            "the other copy is of another lineage: an Operation must say that it may be overwritten"
        }
    }
}
