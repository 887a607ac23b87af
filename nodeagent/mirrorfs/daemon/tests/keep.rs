//! A copy of another lineage is overwritten only when a person says so, and is kept where they want that.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::Machines;

const OPERATION: &str = "00000000-0000-0000-0000-0000000000aa";

fn kill(child: &mut Option<std::process::Child>) {
    let mut child = child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

/// `a` went on alone, then `b` was made primary by force: two lineages. `b` serves, `a` has come back.
fn split() -> Machines {
    let mut machines = Machines::new(1);
    machines.start();
    let at = machines.mount();
    fs::create_dir_all(at.join("both/deeper")).unwrap();
    fs::write(at.join("both/deeper/file"), b"before the split").unwrap();
    fs::write(at.join("changed"), b"before").unwrap();
    kill(&mut machines.secondary);
    machines.wait_for_role("a", "ALONE");
    fs::write(at.join("changed"), b"by a").unwrap();
    fs::write(at.join("of a alone"), b"a").unwrap();
    fs::hard_link(at.join("of a alone"), at.join("linked")).unwrap();
    kill(&mut machines.primary);
    machines.start_secondary();
    machines.wait_for_role("b", "WAIT");
    // It takes a while until `b` knows that nobody answers.
    machines
        .until_done("b", json!({"do": "force", "operation": OPERATION, "confirmedOff": true, "peerLeaseFresh": false}));
    machines.wait_for("b", |status| status["role"] == "ALONE" && status["mounted"] == true);
    fs::write(machines.directory("b", 0).join("changed"), b"by b").unwrap();
    machines.start_primary();
    machines.wait_for("b", |status| status["notices"].to_string().contains("another lineage"));
    assert_eq!(fs::read(machines.under("a", 0).join("changed")).unwrap(), b"by a", "nothing is overwritten unasked");
    machines
}

fn kept(machines: &Machines) -> Vec<std::path::PathBuf> {
    let folder = machines.under("a", 0).join(".farmstead-mirror/kept");
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    }
}

fn assert_of_a(folder: &Path) {
    assert_eq!(fs::read(folder.join("changed")).unwrap(), b"by a");
    assert_eq!(fs::read(folder.join("of a alone")).unwrap(), b"a");
    assert_eq!(fs::read(folder.join("both/deeper/file")).unwrap(), b"before the split");
    use std::os::unix::fs::MetadataExt;
    let inode = |name: &str| folder.join(name).metadata().unwrap().ino();
    assert_eq!(inode("linked"), inode("of a alone"));
}

#[test]
fn a_copy_of_another_lineage_is_kept_where_asked() {
    let machines = split();
    machines.until_done("b", json!({"do": "overwrite", "keep": true}));
    machines.wait_for_role("a", "SECOND");
    machines.wait_for_role("b", "PRIM");
    let told = machines.status("a");
    assert_eq!(told["kept"]["state"], "kept", "{told}");
    let folders = kept(&machines);
    assert_eq!(folders.len(), 1, "{folders:?}");
    assert!(folders[0].ends_with(told["kept"]["folder"].as_str().unwrap()), "{told}");
    assert_of_a(&folders[0]);
    assert_eq!(fs::read(machines.under("a", 0).join("changed")).unwrap(), b"by b");
    assert!(!machines.under("a", 0).join("of a alone").exists());
    // What is kept is nobody's object: changes and later resyncs leave it alone.
    let at = machines.directory("b", 0);
    fs::write(at.join("both/deeper/file"), b"after the split").unwrap();
    fs::remove_file(at.join("changed")).unwrap();
    assert_eq!(machines.ask("b", json!({"do": "verify"}))["verify"]["different"], 0);
    assert_of_a(&folders[0]);
}

#[test]
fn a_copy_of_another_lineage_is_not_kept_unasked() {
    let machines = split();
    machines.until_done("b", json!({"do": "overwrite"}));
    machines.wait_for_role("a", "SECOND");
    assert_eq!((kept(&machines).len(), machines.status("a")["kept"].clone()), (0, Value::Null));
    assert_eq!(fs::read(machines.under("a", 0).join("changed")).unwrap(), b"by b");
}
