//! Each row of the operations table through a real mount, on both copies.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use support::{Pair, set_mode};

#[test]
fn files_directories_and_links_of_every_kind_are_on_both_sides() {
    let mut pair = Pair::new();
    let at = pair.mnt();
    fs::create_dir_all(at.join("d/e")).unwrap();
    fs::write(at.join("d/file"), b"hello").unwrap();
    std::os::unix::fs::symlink("../d/file", at.join("d/e/symlink")).unwrap();
    fs::hard_link(at.join("d/file"), at.join("d/e/hard")).unwrap();
    let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"a b\n\xff\xfe");
    fs::write(at.join(odd), b"x").unwrap();
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    mknodat(CWD, at.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    mknodat(CWD, at.join("device"), FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(1, 300)).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(at.join("socket")).unwrap();
    drop(socket);
    assert_eq!(fs::metadata(at.join("d/file")).unwrap().nlink(), 2);
    assert_eq!(fs::read(at.join("d/e/symlink")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert_eq!(fs::symlink_metadata(at.join("device")).unwrap().rdev(), makedev(1, 300));
    assert!(!fs::read_dir(&at).unwrap().any(|entry| entry.unwrap().file_name() == ".farmstead-mirror"));
    assert!(fs::metadata(at.join(".farmstead-mirror")).is_err());
    assert!(fs::create_dir(at.join(".farmstead-mirror")).is_err());
    pair.settle();
}

#[test]
fn appends_and_truncations_come_out_alike() {
    let mut pair = Pair::new();
    let path = pair.mnt().join("log");
    let mut first = OpenOptions::new().append(true).create(true).open(&path).unwrap();
    let mut second = OpenOptions::new().append(true).open(&path).unwrap();
    for n in 0..50 {
        writeln!(first, "first {n}").unwrap();
        writeln!(second, "second {n}").unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 100);
    first.set_len(10).unwrap();
    second.write_all(b"end").unwrap();
    assert_eq!(fs::read(&path).unwrap().len(), 13);
    File::create(pair.mnt().join("log")).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    drop((first, second));
    pair.settle();
}

#[test]
fn holes_stay_holes() {
    use rustix::fs::{FallocateFlags, fallocate};
    let mut pair = Pair::new();
    let file = File::create(pair.mnt().join("sparse")).unwrap();
    file.set_len(8 << 20).unwrap();
    file.write_all_at(&[7; 65536], 4 << 20).unwrap();
    file.write_all_at(&[8; 262_144], 1 << 20).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, punch, (1 << 20) + 4096, 65536).unwrap();
    fallocate(&file, FallocateFlags::ZERO_RANGE, (1 << 20) + 131_072, 4096).unwrap();
    fallocate(&file, FallocateFlags::KEEP_SIZE, 8 << 20, 65536).unwrap();
    fallocate(&file, FallocateFlags::empty(), 9 << 20, 4096).unwrap();
    let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).unwrap();
    assert_eq!(data, 1 << 20);
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(data)).unwrap(), (1 << 20) + 4096);
    drop(file);
    assert!(fs::metadata(pair.mnt().join("sparse")).unwrap().blocks() < 8192);
    pair.settle();
}

#[test]
fn copy_file_range_copies_on_both_sides() {
    let mut pair = Pair::new();
    let at = pair.mnt();
    let data: Vec<u8> = (0..3_000_000u32).map(|n| ((n * 7) >> 3) as u8).collect();
    fs::write(at.join("from"), &data).unwrap();
    let (from, to) = (File::open(at.join("from")).unwrap(), File::create(at.join("to")).unwrap());
    let (mut source, mut target) = (100u64, 5000u64);
    let mut left = 2_000_000;
    while left > 0 {
        left -= rustix::fs::copy_file_range(&from, Some(&mut source), &to, Some(&mut target), left).unwrap();
    }
    assert_eq!(fs::read(at.join("to")).unwrap()[5000..], data[100..2_000_100]);
    // A source that has lost its name: the peer has dropped it and gets the data.
    fs::remove_file(at.join("from")).unwrap();
    let (mut source, mut target) = (0u64, 0u64);
    let copied = rustix::fs::copy_file_range(&from, Some(&mut source), &to, Some(&mut target), 5000).unwrap();
    assert_eq!(fs::read(at.join("to")).unwrap()[..copied], data[..copied]);
    drop((from, to));
    pair.settle();
}

#[test]
fn rename_with_all_its_flags() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let mut pair = Pair::new();
    let at = pair.mnt();
    for name in ["a", "b", "c", "d"] {
        fs::write(at.join(name), name).unwrap();
    }
    fs::create_dir_all(at.join("full/x")).unwrap();
    fs::create_dir(at.join("empty")).unwrap();
    let rename = |from: &str, to: &str, flags| renameat_with(CWD, at.join(from), CWD, at.join(to), flags);
    assert_eq!(rename("a", "b", RenameFlags::NOREPLACE), Err(rustix::io::Errno::EXIST));
    rename("a", "b", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read(at.join("a")).unwrap(), b"b");
    let kept = File::open(at.join("c")).unwrap();
    rename("b", "c", RenameFlags::empty()).unwrap();
    assert_eq!(fs::read(at.join("c")).unwrap(), b"a");
    assert_eq!(std::io::read_to_string(kept).unwrap(), "c");
    assert_eq!(rename("empty", "full", RenameFlags::empty()), Err(rustix::io::Errno::NOTEMPTY));
    assert_eq!(rename("a", "a2", RenameFlags::WHITEOUT), Err(rustix::io::Errno::INVAL));
    rename("full", "empty", RenameFlags::empty()).unwrap();
    rename("empty", "full/inside", RenameFlags::empty()).unwrap_err();
    rename("full/x", "x", RenameFlags::NOREPLACE).unwrap_err();
    rename("empty/x", "x", RenameFlags::NOREPLACE).unwrap();
    pair.settle();
}

#[test]
fn an_open_file_outlives_its_name() {
    let mut pair = Pair::new();
    let path = pair.mnt().join("gone");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all(b"before").unwrap();
    fs::remove_file(&path).unwrap();
    file.write_all(b" and after").unwrap();
    file.sync_all().unwrap();
    file.set_len(13).unwrap();
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before and af");
    // Opened once more through its magic link, while nothing else names it.
    let again = fs::read_to_string(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap();
    assert_eq!(again, text);
    fs::write(&path, b"another").unwrap();
    drop(file);
    pair.settle();
}

#[test]
fn a_nameless_file_gets_a_name_or_goes() {
    let mut pair = Pair::new();
    let at = pair.mnt();
    let open =
        || OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).mode(0o640).open(&at).unwrap();
    let (mut named, mut dropped) = (open(), open());
    named.write_all(b"to be named").unwrap();
    dropped.write_all(b"to be dropped").unwrap();
    let magic = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&named));
    rustix::fs::linkat(rustix::fs::CWD, magic, rustix::fs::CWD, at.join("named"), rustix::fs::AtFlags::SYMLINK_FOLLOW)
        .unwrap();
    named.write_all(b", and it was").unwrap();
    drop((named, dropped));
    assert_eq!(fs::read(at.join("named")).unwrap(), b"to be named, and it was");
    // The release of the dropped one comes after its close: unmounting waits for it.
    pair.settle();
    let limbo = pair.b().join(".farmstead-mirror/limbo");
    assert_eq!(fs::read_dir(limbo).unwrap().count(), 0);
}

#[test]
fn extended_attributes_are_all_there_but_ours() {
    use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
    let mut pair = Pair::new();
    let path = pair.mnt().join("file");
    fs::write(&path, b"x").unwrap();
    setxattr(&path, "user.a", b"one", XattrFlags::CREATE).unwrap();
    assert_eq!(setxattr(&path, "user.a", b"two", XattrFlags::CREATE), Err(rustix::io::Errno::EXIST));
    setxattr(&path, "user.a", b"two", XattrFlags::REPLACE).unwrap();
    setxattr(&path, "trusted.b", &[9; 1000], XattrFlags::empty()).unwrap();
    setxattr(&path, "user.c", b"", XattrFlags::empty()).unwrap();
    removexattr(&path, "user.c").unwrap();
    let mut buffer = [0; 4096];
    let length = listxattr(&path, &mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"user.a\0trusted.b\0");
    assert_eq!(getxattr(&path, "trusted.farmstead", &mut buffer), Err(rustix::io::Errno::NODATA));
    assert_eq!(setxattr(&path, "trusted.farmstead", b"x", XattrFlags::empty()), Err(rustix::io::Errno::PERM));
    assert_eq!(rustix::fs::getxattr_query(&path, "user.a"), Ok(3));
    assert_eq!(getxattr(&path, "user.a", &mut buffer[..2]), Err(rustix::io::Errno::RANGE));
    pair.settle();
}

#[test]
fn direct_io_demands_what_it_demands_below() {
    let mut pair = Pair::new();
    let path = pair.mnt().join("direct");
    let file = OpenOptions::new().read(true).write(true).create(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
    let mut memory = vec![5u8; 4096 * 40];
    let start = memory.as_ptr().align_offset(4096);
    let aligned = &mut memory[start..start + 4096 * 32];
    file.write_all_at(aligned, 8192).unwrap();
    assert_eq!(file.write_at(&aligned[..4096], 100).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    // Cached and direct views of one file agree.
    let cached = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    cached.write_all_at(b"cached", 8192).unwrap();
    file.read_exact_at(&mut aligned[..4096], 8192).unwrap();
    assert_eq!(&aligned[..7], b"cached\x05");
    aligned[..4096].fill(6);
    file.write_all_at(&aligned[..4096], 8192).unwrap();
    let mut back = [0; 8];
    cached.read_exact_at(&mut back, 8192).unwrap();
    assert_eq!(back, [6; 8]);
    drop((file, cached));
    pair.settle();
}

#[test]
fn times_that_a_program_sets_are_the_times_on_both_sides() {
    let mut pair = Pair::new();
    let path = pair.mnt().join("file");
    let file = File::create(&path).unwrap();
    let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    (&file).write_all(b"x").unwrap();
    file.set_times(fs::FileTimes::new().set_modified(then).set_accessed(then)).unwrap();
    assert_eq!(file.metadata().unwrap().modified().unwrap(), then);
    drop(file);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), then);
    pair.settle();
    assert_eq!(fs::metadata(pair.b().join("file")).unwrap().modified().unwrap(), then);
}

#[test]
fn a_time_once_shown_stays() {
    let mut pair = Pair::new();
    let path = pair.mnt().join("file");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"data").unwrap();
    let shown = file.metadata().unwrap().modified().unwrap();
    drop(file);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), shown);
    pair.settle();
    assert_eq!(fs::metadata(pair.a().join("file")).unwrap().modified().unwrap(), shown);
    assert_eq!(fs::metadata(pair.b().join("file")).unwrap().modified().unwrap(), shown);
}

#[test]
fn listings_name_the_inodes_that_stat_names_and_survive_changes() {
    let mut pair = Pair::new();
    let at = pair.mnt().join("many");
    fs::create_dir(&at).unwrap();
    for n in 0..2000 {
        File::create(at.join(format!("file-{n:04}-with-a-name-of-some-length"))).unwrap();
    }
    use std::os::unix::fs::DirEntryExt;
    let entries: Vec<_> = fs::read_dir(&at).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 2000);
    for entry in &entries {
        assert_eq!(entry.ino(), fs::metadata(entry.path()).unwrap().ino());
    }
    // An entry holds its directory open.
    drop(entries);
    // Removing while reading, as rm -r does.
    for entry in fs::read_dir(&at).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    fs::remove_dir(&at).unwrap();
    pair.settle();
}

#[test]
fn inode_numbers_are_the_same_after_a_restart() {
    let mut pair = Pair::new();
    fs::create_dir(pair.mnt().join("d")).unwrap();
    fs::write(pair.mnt().join("d/f"), b"x").unwrap();
    let before = fs::metadata(pair.mnt().join("d/f")).unwrap().ino();
    pair.remount(&[]);
    assert_eq!(fs::metadata(pair.mnt().join("d/f")).unwrap().ino(), before);
    fs::write(pair.mnt().join("d/f"), b"yy").unwrap();
    fs::remove_file(pair.mnt().join("d/f")).unwrap();
    pair.settle();
}

#[test]
fn a_directory_that_was_full_before_is_taken_over_as_it_is() {
    let fill = |at: &Path| {
        fs::create_dir(at.join("old")).unwrap();
        fs::write(at.join("old/file"), b"from before").unwrap();
        fs::hard_link(at.join("old/file"), at.join("old/second")).unwrap();
        let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_500_000_000);
        for name in ["old/file", "old"] {
            let file = File::open(at.join(name)).unwrap();
            file.set_times(fs::FileTimes::new().set_modified(then)).unwrap();
        }
    };
    let mut pair = Pair::with(fill, &[]);
    let at = pair.mnt().join("old");
    assert_eq!(fs::metadata(at.join("file")).unwrap().ino(), fs::metadata(at.join("second")).unwrap().ino());
    fs::write(at.join("second"), b"changed").unwrap();
    fs::rename(at.join("file"), pair.mnt().join("moved")).unwrap();
    assert_eq!(fs::read(pair.mnt().join("moved")).unwrap(), b"changed");
    pair.settle();
}

#[test]
fn excluded_paths_stay_on_the_primary() {
    let mut pair = Pair::with(|_| {}, &["local.pid", "cache/tmp"]);
    let at = pair.mnt();
    fs::write(at.join("local.pid"), b"1").unwrap();
    fs::create_dir_all(at.join("cache/tmp/deep")).unwrap();
    fs::write(at.join("cache/tmp/deep/f"), b"2").unwrap();
    fs::rename(at.join("cache/tmp/deep/f"), at.join("cache/tmp/g")).unwrap();
    fs::write(at.join("cache/kept"), b"3").unwrap();
    for (from, to) in [("cache/tmp/g", "g"), ("cache/kept", "cache/tmp/kept"), ("cache", "cash"), ("cache/tmp", "t")] {
        let error = fs::rename(at.join(from), at.join(to)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EXDEV), "{from} -> {to}");
    }
    let error = fs::hard_link(at.join("cache/kept"), at.join("cache/tmp/link")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
    // Data from an excluded file into a mirrored one.
    fs::copy(at.join("cache/tmp/g"), at.join("copied")).unwrap();
    assert!(!pair.b().join("local.pid").exists() && !pair.b().join("cache/tmp").exists());
    assert_eq!(fs::read(pair.b().join("cache/kept")).unwrap(), b"3");
    assert_eq!(fs::read(pair.b().join("copied")).unwrap(), b"2");
    fs::remove_dir_all(at.join("cache/tmp")).unwrap();
    fs::remove_file(at.join("local.pid")).unwrap();
    // With what was excluded gone, both sides are equal but for the times of its directories.
    let then = std::time::SystemTime::UNIX_EPOCH;
    let cache = File::open(at.join("cache")).unwrap();
    cache.set_times(fs::FileTimes::new().set_modified(then)).unwrap();
    drop(cache);
    pair.settle();
}

#[test]
fn statfs_and_modes_of_the_mount_itself() {
    let mut pair = Pair::new();
    let (above, below) = (rustix::fs::statvfs(pair.mnt()).unwrap(), rustix::fs::statvfs(pair.a()).unwrap());
    assert_eq!((above.f_blocks, above.f_files, above.f_namemax), (below.f_blocks, below.f_files, below.f_namemax));
    set_mode(&pair.mnt(), 0o711);
    pair.settle();
}
