//! Verification between real daemons: damage done to a copy underneath is found and mended, changes under way are not mistaken for it.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use rustix::fs::{FallocateFlags, XattrFlags};
use serde_json::{Value, json};
use support::Machines;
use support::fidget::{Stop, fidget};
use support::random::Random;

fn fill(at: &Path) {
    let mut random = Random::new(1);
    fs::write(at.join("large"), random.bytes(6 << 20)).unwrap();
    fs::write(at.join("holed"), random.bytes(3 << 20)).unwrap();
    for folder in ["small", "moved", "plain"] {
        fs::create_dir(at.join(folder)).unwrap();
        for number in 0..50 {
            fs::write(at.join(format!("{folder}/{number}")), random.bytes(1 + number * 200)).unwrap();
        }
    }
    fs::hard_link(at.join("small/1"), at.join("small/linked")).unwrap();
    std::os::unix::fs::symlink("small/2", at.join("symbolic")).unwrap();
    rustix::fs::setxattr(at.join("small/3"), "user.told", b"so", XattrFlags::empty()).unwrap();
    // Its time is set on both copies now, and not with the next checkpoint.
    File::open(at.join("small/8")).unwrap().sync_all().unwrap();
}

/// Everything that a person, a bug or a bad disk could do to a copy. Returns how many objects differ afterwards, at least.
fn damage(at: &Path) -> u64 {
    let open = |name: &str| File::options().write(true).open(at.join(name)).unwrap();
    // A block in the middle of a large file, behind its times' back.
    let large = open("large");
    let time = large.metadata().unwrap().modified().unwrap();
    large.write_all_at(&[0xa5; 512], 3 << 20).unwrap();
    large.set_modified(time).unwrap();
    let holed = open("holed");
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&holed, flags, 1 << 20, 65_536).unwrap();
    fs::write(at.join("small/4"), b"something else").unwrap();
    open("small/5").set_len(3).unwrap();
    fs::set_permissions(at.join("small/6"), fs::Permissions::from_mode(0o4711)).unwrap();
    std::os::unix::fs::chown(at.join("small/7"), Some(1234), Some(4321)).unwrap();
    open("small/8").set_modified(std::time::UNIX_EPOCH).unwrap();
    rustix::fs::removexattr(at.join("small/3"), "user.told").unwrap();
    rustix::fs::setxattr(at.join("small/9"), "user.more", b"than there was", XattrFlags::empty()).unwrap();
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x07\0\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
    rustix::fs::setxattr(at.join("small/10"), "system.posix_acl_access", acl, XattrFlags::empty()).unwrap();
    // Names: one less, one more, others', and a link group that is none any more.
    fs::remove_file(at.join("small/11")).unwrap();
    fs::write(at.join("small/surplus"), b"x").unwrap();
    fs::rename(at.join("small/12"), at.join("plain/12b")).unwrap();
    fs::rename(at.join("moved"), at.join("plain/elsewhere")).unwrap();
    fs::remove_file(at.join("small/linked")).unwrap();
    fs::copy(at.join("small/1"), at.join("small/linked")).unwrap();
    fs::remove_file(at.join("symbolic")).unwrap();
    std::os::unix::fs::symlink("small/3", at.join("symbolic")).unwrap();
    fs::remove_file(at.join("small/13")).unwrap();
    fs::create_dir(at.join("small/13")).unwrap();
    // The root, two directories, and what was changed in place.
    3 + 10
}

fn verify(machines: &Machines, repair: bool) -> Value {
    let mut answer = machines.ask("a", json!({"do": "verify", "repair": repair}));
    assert_eq!(answer["ok"], true, "{answer}");
    answer["verify"].take()
}

#[test]
fn damage_to_a_copy_is_found_and_mended_while_a_program_works() {
    let mut machines = Machines::new(1);
    machines.start();
    fill(&machines.mount());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for writer in 0..2 {
            let (folder, stop) = (machines.mount().join(format!("busy-{writer}")), &stop);
            scope.spawn(move || fidget(&folder, stop, writer));
        }
        let clean = verify(&machines, false);
        assert_eq!(clean["different"], 0, "{clean}");
        assert!(clean["inodesCompared"].as_u64().unwrap() > 150, "{clean}");
        let at_least = damage(&machines.under("b", 0));
        let found = verify(&machines, false);
        assert!(found["different"].as_u64().unwrap() >= at_least, "{found}");
        assert_eq!((found["mended"].as_u64(), found["differentData"].as_u64()), (Some(0), Some(4)), "{found}");
        let paths = found["paths"].to_string();
        assert!(paths.contains("/large (data)") && paths.contains("/small (names)"), "{found}");
        let mended = verify(&machines, true);
        assert!(mended["mended"].as_u64().unwrap() >= at_least, "{mended}");
        assert_eq!(mended["mended"], mended["different"], "{mended}");
        let clean = verify(&machines, false);
        assert_eq!(clean["different"], 0, "{clean}");
    });
    assert_eq!(fs::read_dir(machines.under("b", 0).join(".farmstead-mirror/aside")).unwrap().count(), 0);
    machines.assert_equal();
}

#[test]
fn only_a_primary_with_a_secondary_can_verify() {
    let mut machines = Machines::new(1);
    machines.start();
    let answer = machines.ask("b", json!({"do": "verify"}));
    assert!(answer["error"].as_str().unwrap().contains("only a primary"), "{answer}");
    machines.stop();
}
