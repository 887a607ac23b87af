//! Random changes of a directory: every kind of operation, on names that meet each other often.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, XattrFlags};

use super::random::Random;

/// Makes a mess in `root`, `count` operations of it. What fails fails: the names are random.
pub fn mess(root: &Path, random: &mut Random, count: usize) {
    for _ in 0..count {
        let _ = one(root, random);
    }
}

fn name(random: &mut Random) -> String {
    let names = ["a", "b", "c", "with space", "\u{fc}ml\u{e4}ut", "d", "e", "f"];
    let pick = *random.pick(&names);
    if random.below(3) == 0 { format!("{pick}{}", random.below(4)) } else { pick.to_string() }
}

/// A path whose folders probably exist.
fn path(root: &Path, random: &mut Random) -> PathBuf {
    let mut path = root.to_path_buf();
    for _ in 0..random.below(4) {
        let next = path.join(format!("dir{}", random.below(4)));
        if !next.is_dir() {
            break;
        }
        path = next;
    }
    path.join(name(random))
}

fn folder(root: &Path, random: &mut Random) -> PathBuf {
    let path = path(root, random);
    path.with_file_name(format!("dir{}", random.below(4)))
}

fn either(root: &Path, random: &mut Random) -> PathBuf {
    if random.below(3) == 0 { folder(root, random) } else { path(root, random) }
}

fn offset(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.below(100),
        1 => random.below(300_000),
        2 => random.below(80) * 4096,
        _ => random.below(2_000_000),
    }
}

fn one(root: &Path, random: &mut Random) -> std::io::Result<()> {
    let open = |path: &Path, flags: OFlags| {
        rustix::fs::open(path, flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::from(0o644))
    };
    match random.below(20) {
        0..=4 => {
            let fd = open(&path(root, random), OFlags::RDWR | OFlags::CREATE)?;
            let length = if random.below(4) == 0 { 200_000 } else { 5_000 };
            let (at, length) = (offset(random), random.below(length) as usize);
            let data = random.bytes(length);
            rustix::io::pwrite(&fd, &data, at)?;
        }
        5 => {
            let fd = open(&path(root, random), OFlags::RDWR)?;
            rustix::fs::ftruncate(&fd, offset(random))?;
        }
        6 => {
            let fd = open(&path(root, random), OFlags::RDWR)?;
            // Not KEEP_SIZE alone: what is preallocated behind a file's end is no part of a copy.
            let mode = match random.below(3) {
                0 => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                1 => FallocateFlags::ZERO_RANGE,
                _ => FallocateFlags::empty(),
            };
            rustix::fs::fallocate(&fd, mode, offset(random), offset(random).max(1))?;
        }
        7 => std::fs::create_dir(folder(root, random))?,
        8 => {
            let (from, to) = (either(root, random), either(root, random));
            let flags = *random.pick(&[RenameFlags::empty(), RenameFlags::NOREPLACE, RenameFlags::EXCHANGE]);
            rustix::fs::renameat_with(CWD, &from, CWD, &to, flags)?;
        }
        9 => {
            let (from, to) = (either(root, random), either(root, random));
            rustix::fs::rename(&from, &to)?;
        }
        10 => std::fs::hard_link(path(root, random), path(root, random))?,
        11 | 12 => std::fs::remove_file(path(root, random))?,
        13 => {
            let folder = folder(root, random);
            if random.below(4) == 0 { std::fs::remove_dir_all(folder)? } else { std::fs::remove_dir(folder)? }
        }
        14 => std::os::unix::fs::symlink(name(random), path(root, random))?,
        15 => {
            let mode = *random.pick(&[0o600, 0o755, 0o4755, 0o2711, 0o1777]);
            rustix::fs::chmod(either(root, random), Mode::from(mode))?;
        }
        16 => {
            let (uid, gid) = (random.below(3) as u32 * 1000, random.below(3) as u32 * 1000);
            std::os::unix::fs::lchown(either(root, random), Some(uid), Some(gid))?;
        }
        17 => {
            let path = either(root, random);
            let name = *random.pick(&["user.one", "user.two", "trusted.three"]);
            if random.below(3) == 0 {
                rustix::fs::lremovexattr(&path, name)?;
            } else {
                let length = if random.below(8) == 0 { 2000 } else { 20 };
                rustix::fs::lsetxattr(&path, name, &random.bytes(length), XattrFlags::empty())?;
            }
        }
        18 => {
            let from = open(&path(root, random), OFlags::RDONLY)?;
            let to = open(&path(root, random), OFlags::RDWR | OFlags::CREATE)?;
            let (mut source, mut target) = (offset(random), offset(random));
            let length = random.below(100_000) as usize;
            rustix::fs::copy_file_range(&from, Some(&mut source), &to, Some(&mut target), length)?;
        }
        _ => special(root, random)?,
    }
    Ok(())
}

fn special(root: &Path, random: &mut Random) -> std::io::Result<()> {
    let path = path(root, random);
    match random.below(3) {
        0 => {
            let kind = *random.pick(&[FileType::Fifo, FileType::Socket, FileType::CharacterDevice]);
            rustix::fs::mknodat(CWD, &path, kind, Mode::from(0o640), rustix::fs::makedev(1, 300))?;
        }
        1 => {
            // An ACL: user::rw-, user:1000:rwx, group::r--, mask::rwx, other::---.
            let mut acl = 2u32.to_le_bytes().to_vec();
            for (tag, bits, id) in
                [(1u16, 6u16, u32::MAX), (2, 7, 1000), (4, 4, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
            {
                acl.extend(tag.to_le_bytes());
                acl.extend(bits.to_le_bytes());
                acl.extend(id.to_le_bytes());
            }
            let name = if path.is_dir() && random.below(2) == 0 {
                "system.posix_acl_default"
            } else {
                "system.posix_acl_access"
            };
            rustix::fs::lsetxattr(&path, name, &acl, XattrFlags::empty())?;
        }
        _ => {
            let parent = path.parent().unwrap_or(root);
            let fd = rustix::fs::open(parent, OFlags::RDWR | OFlags::TMPFILE, Mode::from(0o600))?;
            let data = random.bytes(3000);
            rustix::io::pwrite(&fd, &data, 0)?;
            let from = CString::new(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd)))?;
            let to = CString::new(path.as_os_str().as_bytes())?;
            rustix::fs::linkat(CWD, from, CWD, to, AtFlags::SYMLINK_FOLLOW)?;
        }
    }
    Ok(())
}
