//! A daemon that is stopped and goes on, as a debugger or a container's freezer does it, has lost nothing.

mod support;

use std::fs;
use std::process::{Child, Command};

use support::Machines;

/// Stops the process, waits until all its threads stand still, and lets it go on.
fn pause(child: &Child) {
    let pid = child.id().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    let stopped = |task: fs::DirEntry| fs::read_to_string(task.path().join("stat")).unwrap().contains(") T ");
    while !fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(|task| stopped(task.unwrap())) {
        std::thread::yield_now();
    }
    signal("-CONT");
}

#[test]
fn a_daemon_that_was_stopped_and_goes_on_keeps_its_connections() {
    let mut machines = Machines::new(1);
    machines.start();
    let at = machines.mount();
    for round in 0..5u8 {
        fs::write(at.join("file"), [round; 4096]).unwrap();
        pause(machines.secondary.as_ref().unwrap());
        pause(machines.primary.as_ref().unwrap());
        fs::write(at.join("file"), [round + 100; 4096]).unwrap();
    }
    machines.stop();
    assert_eq!(fs::read(machines.directory("b", 0).join("file")).unwrap(), [104; 4096]);
}
