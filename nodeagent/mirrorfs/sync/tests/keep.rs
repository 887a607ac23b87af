//! A copy on a file system whose files can share blocks is kept by cloning it: it stays, and the live one is left as it was.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use mirrorfs_sync::keep::Kept;
use support::random::Random;
use support::{Pair, snapshot};

/// An XFS in a file, mounted until it goes. Needs xfsprogs.
struct Xfs(tempfile::TempDir);

impl Xfs {
    fn new() -> Xfs {
        let base = tempfile::Builder::new().prefix("mirrorfs-xfs-").tempdir().unwrap();
        let image = base.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let xfs = Xfs(base);
        std::fs::create_dir(xfs.at()).unwrap();
        run(Command::new("mkfs.xfs").arg("-q").arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(xfs.at()));
        xfs
    }

    fn at(&self) -> PathBuf {
        self.0.path().join("mounted")
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        // Not mounted where making it failed.
        let _ = Command::new("umount").arg("--lazy").arg(self.at()).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: is xfsprogs installed?"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_copy_is_cloned_with_its_links_holes_and_attributes() {
    let xfs = Xfs::new();
    let prepare = |_: &Path, b: &Path| {
        let mut random = Random::new(6);
        std::fs::write(b.join("large"), random.bytes(40 << 20)).unwrap();
        let holed = std::fs::File::create(b.join("holed")).unwrap();
        // In lengths that it is cached in, too: SEEK_HOLE tells what is cached, and not what is allocated.
        for at in [0, 3 << 20, 9 << 20] {
            std::os::unix::fs::FileExt::write_all_at(&holed, &random.bytes(1 << 17), at).unwrap();
        }
        holed.set_len(12 << 20).unwrap();
        holed.sync_all().unwrap();
        std::fs::create_dir_all(b.join("some/where/deeper")).unwrap();
        std::fs::write(b.join("some/where/file"), b"x").unwrap();
        std::fs::hard_link(b.join("some/where/file"), b.join("linked")).unwrap();
        std::os::unix::fs::symlink("some/where", b.join("symbolic")).unwrap();
        std::os::unix::fs::lchown(b.join("symbolic"), Some(7), Some(8)).unwrap();
        rustix::fs::setxattr(b.join("linked"), "user.told", b"so", rustix::fs::XattrFlags::empty()).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, b.join("fifo"), rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
        std::fs::File::open(b.join("some")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    };
    let pair = Pair::within(&xfs.at(), prepare, &[]);
    let used = || {
        let stat = rustix::fs::statvfs(pair.b()).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    };
    let before = used();
    assert_eq!(pair.target.keep("then").unwrap(), [Kept::Cloned]);
    // Speculative preallocation comes and goes: less may be used than before.
    let more = used().saturating_sub(before);
    assert!(more < 10 << 20, "its data is not shared: {more} more bytes");
    let kept = pair.b().join(".farmstead-mirror/kept/then");
    // Nothing else of a plain copy has an id yet.
    rustix::fs::removexattr(pair.b(), mirrorfs_fs::id::ID_XATTR).unwrap();
    snapshot::assert_same("live", &pair.b(), "kept", &kept, snapshot::Times::Exact);
}
