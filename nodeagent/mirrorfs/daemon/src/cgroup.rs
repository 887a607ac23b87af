//! The application's control groups: frozen while nothing is served, killed when this machine is deposed. Version 1 and 2.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long processes may take to die. One with a request that is held dies when the mount is taken away.
const DEATH: Duration = Duration::from_secs(2);

/// What freezes a group, and the words for it.
fn freezer(group: &Path) -> Option<(&'static str, [&'static str; 2])> {
    [("cgroup.freeze", ["0", "1"]), ("freezer.state", ["THAWED", "FROZEN"])]
        .into_iter()
        .find(|(file, _)| group.join(file).exists())
}

/// Whether a path is a control group that can be frozen.
///
/// # Errors
/// A sentence that names it.
pub fn check(group: &Path) -> std::result::Result<(), String> {
    let told = |what| format!("{}: {what}", group.display());
    if !group.join("cgroup.procs").exists() {
        return Err(told("no control group"));
    }
    freezer(group).map(drop).ok_or_else(|| told("no freezer in this control group (version 1: the freezer hierarchy)"))
}

/// Freezes or thaws a group. Does not wait: a process in the kernel with a held request freezes when that is answered.
///
/// # Errors
/// What writing says.
pub fn freeze(group: &Path, frozen: bool) -> Result<()> {
    let (file, words) = freezer(group).ok_or_else(|| Error::new(ErrorKind::NotFound, "the freezer is gone"))?;
    std::fs::write(group.join(file), words[usize::from(frozen)])
}

/// Kills every process of a group, also of a frozen one. The group is thawed by that: what is started in it later shall run.
///
/// # Errors
/// What reading or killing says.
pub fn kill(group: &Path) -> Result<()> {
    if group.join("cgroup.kill").exists() {
        std::fs::write(group.join("cgroup.kill"), "1")?;
        return freeze(group, false);
    }
    let deadline = Instant::now() + DEATH;
    loop {
        let processes = std::fs::read_to_string(group.join("cgroup.procs"))?;
        let mut left = 0;
        for process in processes.lines().filter_map(|line| line.parse().ok()).filter_map(rustix::process::Pid::from_raw)
        {
            left += 1;
            // Gone already is as good.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
        // Version 1 delivers the signal to a frozen process once it is thawed.
        freeze(group, false)?;
        if left == 0 || Instant::now() > deadline {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
