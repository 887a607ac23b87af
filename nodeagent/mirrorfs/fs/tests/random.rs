//! Random operations by several users on a mirror and on a plain directory: same answers, same trees, three times.
//!
//! `MIRRORFS_SEED` repeats one run, `MIRRORFS_STEPS` sets its length.

mod support;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, RenameFlags, XattrFlags};
use support::Pair;
use support::random::Random;

/// One step, with everything chosen: it can be done twice.
#[derive(Debug, Clone)]
enum Step {
    Create { path: PathBuf, mode: u32, exclusive: bool, keep: bool },
    Tmpfile { path: PathBuf, name: PathBuf },
    Mkdir { path: PathBuf, mode: u32 },
    Symlink { target: PathBuf, path: PathBuf },
    Node { path: PathBuf, mode: u32 },
    Link { from: PathBuf, to: PathBuf },
    Unlink { path: PathBuf },
    Rmdir { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, flags: RenameFlags },
    Write { path: PathBuf, offset: u64, data: Vec<u8> },
    Append { path: PathBuf, data: Vec<u8> },
    WriteKept { number: usize, offset: u64, data: Vec<u8> },
    TruncateKept { number: usize, size: u64 },
    CloseKept,
    Truncate { path: PathBuf, size: u64 },
    Chmod { path: PathBuf, mode: u32 },
    Chown { path: PathBuf, uid: Option<u32>, gid: Option<u32> },
    Times { path: PathBuf, seconds: i64 },
    SetXattr { path: PathBuf, name: &'static str, value: Vec<u8> },
    RemoveXattr { path: PathBuf, name: &'static str },
    Allocate { path: PathBuf, mode: FallocateFlags, offset: u64, length: u64 },
    Copy { from: PathBuf, to: PathBuf, offset: u64, length: usize },
    Look { path: PathBuf },
    List { path: PathBuf },
}

const USERS: [u32; 4] = [0, 0, 1001, 1002];
const MODES: [u32; 8] = [0o644, 0o600, 0o755, 0o777, 0o4755, 0o2775, 0o6777, 0o1777];

/// A name in one of a few directories, seldom one that a directory bears.
fn path(random: &mut Random) -> PathBuf {
    let mut path = directory(random);
    path.push(if random.below(25) == 0 { format!("d{}", random.below(2)) } else { format!("n{}", random.below(6)) });
    path
}

fn directory(random: &mut Random) -> PathBuf {
    (0..random.below(3)).map(|_| format!("d{}", random.below(2))).collect()
}

/// A directory's path, seldom anything else's.
fn folder(random: &mut Random) -> PathBuf {
    if random.below(10) == 0 { path(random) } else { directory(random).join(format!("d{}", random.below(2))) }
}

fn fill(root: &Path) {
    support::set_mode(root, 0o777);
    for path in ["d0", "d0/d0", "d0/d1", "d1", "d1/d0", "d1/d1"] {
        std::fs::create_dir(root.join(path)).unwrap();
        support::set_mode(&root.join(path), 0o777);
    }
    // Both copies begin equal.
    let then = std::fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    for path in ["d0", "d0/d0", "d0/d1", "d1", "d1/d0", "d1/d1"] {
        File::open(root.join(path)).unwrap().set_times(then).unwrap();
    }
}

fn data(random: &mut Random) -> Vec<u8> {
    let length = *random.pick(&[1, 100, 4096, 5000, 20_000]);
    random.bytes(length)
}

/// A POSIX ACL with a mask: user rwx, user 1001, group r-x, mask, other.
fn acl(random: &mut Random) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    let entries = [
        (1u16, 7u16, u32::MAX),
        (2, 6, 1001),
        (4, 5, u32::MAX),
        (16, random.below(8) as u16, u32::MAX),
        (32, random.below(8) as u16, u32::MAX),
    ];
    for (tag, permissions, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

fn step(r: &mut Random) -> Step {
    match r.below(30) {
        0..=3 => {
            Step::Create { path: path(r), mode: *r.pick(&MODES), exclusive: r.below(2) == 0, keep: r.below(3) == 0 }
        }
        4..=6 => Step::Mkdir { path: folder(r), mode: *r.pick(&MODES) },
        7 => Step::Symlink { target: path(r), path: path(r) },
        8 => Step::Node { path: path(r), mode: *r.pick(&MODES) },
        9 => Step::Link { from: path(r), to: path(r) },
        10..=11 if r.below(3) > 0 => Step::Unlink { path: path(r) },
        10..=11 => Step::Rmdir { path: folder(r) },
        12..=13 => {
            let flags = [RenameFlags::empty(), RenameFlags::empty(), RenameFlags::NOREPLACE, RenameFlags::EXCHANGE];
            let kind = if r.below(4) == 0 { folder } else { path };
            Step::Rename { from: kind(r), to: kind(r), flags: *r.pick(&flags) }
        }
        14..=15 => Step::Write { path: path(r), offset: r.below(200_000), data: data(r) },
        16 => Step::Append { path: path(r), data: data(r) },
        17 => Step::WriteKept { number: r.below(4) as usize, offset: r.below(100_000), data: data(r) },
        18 => Step::TruncateKept { number: r.below(4) as usize, size: r.below(100_000) },
        19 => Step::CloseKept,
        20 => Step::Truncate { path: path(r), size: r.below(150_000) },
        21 => Step::Chmod { path: path(r), mode: *r.pick(&MODES) },
        22 => {
            let some = |r: &mut Random, bound: usize| (r.below(2) == 0).then(|| *r.pick(&USERS[4 - bound..]));
            // Not neither: the kernel's FUSE lets anybody say chown(-1, -1), which then takes set-user-id away.
            let uid = some(r, 3);
            let gid = if uid.is_none() { Some(*r.pick(&USERS)) } else { some(r, 3) };
            Step::Chown { path: path(r), uid, gid }
        }
        23 => Step::Times { path: path(r), seconds: r.below(2_000_000_000) as i64 - 1000 },
        24 => {
            let name = *r.pick(&[
                "user.one",
                "user.two",
                "trusted.three",
                "system.posix_acl_access",
                "system.posix_acl_default",
            ]);
            let value =
                if name.starts_with("system") { acl(r) } else { data(r)[..].iter().copied().take(300).collect() };
            Step::SetXattr { path: path(r), name, value }
        }
        25 => Step::RemoveXattr { path: path(r), name: r.pick::<&str>(&REMOVED) },
        26 => {
            let keep = FallocateFlags::KEEP_SIZE;
            let modes = [FallocateFlags::empty(), keep, FallocateFlags::PUNCH_HOLE | keep, FallocateFlags::ZERO_RANGE];
            Step::Allocate {
                path: path(r),
                mode: *r.pick(&modes),
                offset: r.below(30) * 4096,
                length: 1 + r.below(50_000),
            }
        }
        27 => Step::Copy { from: path(r), to: path(r), offset: r.below(50_000), length: r.below(60_000) as usize },
        28 if r.below(3) == 0 => Step::Tmpfile { path: folder(r), name: path(r) },
        28 => Step::List { path: folder(r) },
        _ => Step::Look { path: path(r) },
    }
}

/// Attributes that are taken away again.
const REMOVED: [&str; 3] = ["user.one", "system.posix_acl_default", "system.posix_acl_access"];

type Seen = Result<Vec<u64>, i32>;

fn os(error: std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(-1)
}

/// Does the step below `root` and returns what a program sees of it.
fn run(step: &Step, root: &Path, kept: &mut VecDeque<File>) -> Seen {
    let at = |path: &PathBuf| root.join(path);
    let rx = |result: rustix::io::Result<()>| result.map(|()| vec![]).map_err(|e| e.raw_os_error());
    let io = |result: std::io::Result<()>| result.map(|()| vec![]).map_err(os);
    let open = |path: &PathBuf| {
        OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(at(path)).map_err(os)
    };
    match step {
        Step::Create { path, mode, exclusive, keep } => {
            let mut options = OpenOptions::new();
            options.read(true).write(true).mode(*mode).custom_flags(libc::O_NONBLOCK);
            let file =
                if *exclusive { options.create_new(true) } else { options.create(true) }.open(at(path)).map_err(os)?;
            if *keep && file.metadata().map_err(os)?.is_file() {
                kept.push_back(file);
                kept.truncate(4);
            }
            Ok(vec![])
        }
        Step::Tmpfile { path, name } => {
            let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR;
            let file = rustix::fs::open(at(path), flags, Mode::from_raw_mode(0o664)).map_err(|e| e.raw_os_error())?;
            let magic = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            rx(rustix::fs::linkat(CWD, magic, CWD, at(name), AtFlags::SYMLINK_FOLLOW))
        }
        Step::Mkdir { path, mode } => rx(rustix::fs::mkdir(at(path), Mode::from_raw_mode(*mode))),
        Step::Symlink { target, path } => io(std::os::unix::fs::symlink(target, at(path))),
        Step::Node { path, mode } => {
            rx(rustix::fs::mknodat(CWD, at(path), FileType::Fifo, Mode::from_raw_mode(*mode), 0))
        }
        Step::Link { from, to } => io(std::fs::hard_link(at(from), at(to))),
        Step::Unlink { path } => io(std::fs::remove_file(at(path))),
        Step::Rmdir { path } => io(std::fs::remove_dir(at(path))),
        Step::Rename { from, to, flags } => rx(rustix::fs::renameat_with(CWD, at(from), CWD, at(to), *flags)),
        Step::Write { path, offset, data } => io(open(path)?.write_all_at(data, *offset)),
        Step::Append { path, data } => {
            let mut options = OpenOptions::new();
            let file =
                options.append(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(at(path)).map_err(os)?;
            io(std::io::Write::write_all(&mut &file, data))
        }
        Step::WriteKept { number, offset, data } => {
            kept.get(*number).map_or(Ok(vec![]), |f| io(f.write_all_at(data, *offset)))
        }
        Step::TruncateKept { number, size } => kept.get(*number).map_or(Ok(vec![]), |f| io(f.set_len(*size))),
        Step::CloseKept => Ok(kept.pop_front().map_or(vec![], |f| vec![f.metadata().unwrap().nlink()])),
        Step::Truncate { path, size } => {
            let path = std::ffi::CString::new(at(path).into_os_string().into_encoded_bytes()).unwrap();
            // SAFETY: the path is a C string that lives across the call.
            let rc = unsafe { libc::truncate(path.as_ptr(), *size as libc::off_t) };
            if rc == 0 { Ok(vec![]) } else { Err(os(std::io::Error::last_os_error())) }
        }
        Step::Chmod { path, mode } => rx(rustix::fs::chmod(at(path), Mode::from_raw_mode(*mode))),
        Step::Chown { path, uid, gid } => io(std::os::unix::fs::lchown(at(path), *uid, *gid)),
        Step::Times { path, seconds } => {
            let time = rustix::fs::Timespec { tv_sec: *seconds, tv_nsec: 500 };
            let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
            rx(rustix::fs::utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW))
        }
        Step::SetXattr { path, name, value } => rx(rustix::fs::lsetxattr(at(path), *name, value, XattrFlags::empty())),
        Step::RemoveXattr { path, name } => rx(rustix::fs::lremovexattr(at(path), *name)),
        Step::Allocate { path, mode, offset, length } => {
            rx(rustix::fs::fallocate(open(path)?, *mode, *offset, *length))
        }
        Step::Copy { from, to, offset, length } => {
            let source = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(at(from)).map_err(os)?;
            let mut into = *offset;
            rustix::fs::copy_file_range(source, Some(&mut 0), open(to)?, Some(&mut into), *length)
                .map(|copied| vec![copied as u64])
                .map_err(|e| e.raw_os_error())
        }
        Step::Look { path } => look(&at(path)),
        Step::List { path } => {
            let mut names: Vec<_> = std::fs::read_dir(at(path)).map_err(os)?.map(|e| e.unwrap().file_name()).collect();
            names.sort();
            Ok(vec![names.len() as u64, u64::from(crc32c::crc32c(format!("{names:?}").as_bytes()))])
        }
    }
}

fn look(path: &Path) -> Seen {
    let meta = path.symlink_metadata().map_err(os)?;
    let links = if meta.is_dir() { 0 } else { meta.nlink() };
    let size = if meta.is_dir() { 0 } else { meta.size() };
    let access = rustix::fs::accessat(CWD, path, rustix::fs::Access::WRITE_OK, AtFlags::EACCESS);
    Ok(vec![meta.mode().into(), meta.uid().into(), meta.gid().into(), links, size, access.is_ok().into()])
}

/// Runs `f` with the file system credentials of a user without capabilities, or of root.
fn as_user<T>(user: u32, f: impl FnOnce() -> T) -> T {
    // SAFETY: these calls change the calling thread's credentials for file access, and nothing else.
    let set = |user| unsafe {
        libc::setfsgid(user);
        libc::setfsuid(user);
    };
    if user != 0 {
        set(user);
    }
    let result = f();
    set(0);
    result
}

fn run_seed(seed: u64, steps: u64) {
    let mut pair = Pair::with(fill, &[]);
    let (mirror, reference) = (pair.mnt(), pair.reference());
    let mut random = Random::new(seed);
    let (mut kept_mirror, mut kept_reference) = (VecDeque::new(), VecDeque::new());
    for number in 0..steps {
        let (step, user) = (step(&mut random), *random.pick(&USERS));
        let umask = Mode::from_raw_mode(*random.pick(&[0o022, 0o077, 0, 0o002]));
        rustix::process::umask(umask);
        let expected = as_user(user, || run(&step, &reference, &mut kept_reference));
        let seen = as_user(user, || run(&step, &mirror, &mut kept_mirror));
        assert_eq!(
            expected, seen,
            "seed {seed}, step {number} by {user}: {step:?}: plain directory (left), mirror (right)"
        );
    }
    drop((kept_mirror, kept_reference));
    // Most steps must come to something, or the comparison is worth little.
    let changes = pair.direct.count.load(std::sync::atomic::Ordering::Relaxed);
    println!("seed {seed}: {steps} steps, {changes} operations replicated");
    assert!(changes > steps / 10);
    pair.settle_with_reference();
}

#[test]
fn a_mirror_answers_as_a_plain_directory_and_both_copies_are_equal() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let steps = number("MIRRORFS_STEPS").unwrap_or(2500);
    match number("MIRRORFS_SEED") {
        Some(seed) => run_seed(seed, steps),
        None => (1..=8).for_each(|seed| run_seed(seed, steps)),
    }
}
