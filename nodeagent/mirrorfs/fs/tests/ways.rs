//! The ways that requests come: through `/dev/fuse`, and over io_uring where the kernel offers it. Same work, same end.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use mirrorfs_fs::session::Way;
use support::Pair;

/// More writers than threads, small and large requests, names, listings; both copies compared at the end.
fn work(way: Way) {
    let mut pair = Pair::by(way);
    let at = pair.mnt();
    std::thread::scope(|scope| {
        for writer in 0..12usize {
            let folder = at.join(format!("writer-{writer}"));
            scope.spawn(move || {
                fs::create_dir(&folder).unwrap();
                for n in 0..20 {
                    let path = folder.join(format!("file-{n}"));
                    let data = vec![(writer * 20 + n) as u8; 1 + n * 150_001];
                    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
                    file.write_all_at(&data, 0).unwrap();
                    file.sync_data().unwrap();
                    let mut seen = vec![0; data.len()];
                    file.read_exact_at(&mut seen, 0).unwrap();
                    assert!(seen == data, "{}", path.display());
                    if n % 3 == 0 {
                        fs::rename(&path, folder.join(format!("moved-{n}"))).unwrap();
                    }
                }
                assert_eq!(fs::read_dir(&folder).unwrap().count(), 20);
            });
        }
    });
    // From the disk, not from what the kernel remembers of our writes.
    pair.remount_by(way, &[]);
    for writer in 0..12usize {
        let data = fs::read(at.join(format!("writer-{writer}/file-19"))).unwrap();
        assert!(data == vec![(writer * 20 + 19) as u8; 1 + 19 * 150_001]);
    }
    assert!(fs::read(at.join("nothing")).is_err());
    closed(&pair, &at.join("writer-0/file-1"));
    pair.settle();
}

/// A node that may not serve answers nothing, whichever way it is asked; what is there stays as it is.
fn closed(pair: &Pair, file: &Path) {
    let (refused, count) = (Some(rustix::io::Errno::IO.raw_os_error()), pair.direct.count.load(Ordering::SeqCst));
    pair.direct.closed.store(true, Ordering::SeqCst);
    for kind in ["new", "other"] {
        assert_eq!(fs::write(file.with_file_name(kind), b"x").unwrap_err().raw_os_error(), refused);
    }
    // Not asked for since the mount, so that the kernel has nothing to answer from.
    assert_eq!(fs::metadata(file).unwrap_err().raw_os_error(), refused);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap_err().raw_os_error(), refused);
    pair.direct.closed.store(false, Ordering::SeqCst);
    assert_eq!(pair.direct.count.load(Ordering::SeqCst), count);
    assert_eq!(fs::read(file).unwrap().len(), 1 + 150_001);
    assert!(!file.with_file_name("new").exists());
}

#[test]
fn through_the_device() {
    work(Way::Device);
}

#[test]
fn over_io_uring_where_the_kernel_offers_it() {
    let offered = fs::read_to_string("/sys/module/fuse/parameters/enable_uring").is_ok_and(|text| text.trim() == "Y");
    assert_eq!(Pair::by(Way::Ring).way(), if offered { Way::Ring } else { Way::Device });
    work(Way::Ring);
}
