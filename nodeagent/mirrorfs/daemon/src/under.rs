//! Private mounts: how the directory below is reached while mirrorfs' own mount lies over it.
//!
//! A bind mount of the directory under the state folder, made before anything is mounted over it. It outlives the
//! process: killed and started again, mirrorfs finds the directory there, below its own dead mount.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use mirrorfs_fs::device::TYPE;
use mirrorfs_fs::tree::Tree;
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags};

/// The private mount of directory number `number`.
pub fn path(state: &Path, number: usize) -> PathBuf {
    state.join(format!("under-{number}"))
}

/// Opens a replicated directory below whatever is mounted over it.
///
/// # Errors
/// A sentence that names the directory.
pub fn open(state: &Path, number: usize, directory: &Path) -> Result<Tree, String> {
    let private = path(state, number);
    let told = |what: &str, errno: Errno| format!("{what} {}: {errno}", directory.display());
    // Nobody but us may go past the mirror.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&private);
    made.map_err(|error| format!("{}: {error}", private.display()))?;
    if !is_mount(&private).map_err(|errno| told("looking at the private mount of", errno))? {
        rustix::mount::mount_bind(directory, &private).map_err(|errno| told("private mount of", errno))?;
        let private_flag = MountPropagationFlags::PRIVATE;
        rustix::mount::mount_change(&private, private_flag).map_err(|errno| told("private mount of", errno))?;
    }
    Tree::open(&private).map_err(|errno| told("directory", errno))
}

/// Takes away what a former life of this daemon left mounted over a directory.
///
/// # Errors
/// A sentence that names the directory.
pub fn clear(directory: &Path) -> Result<(), String> {
    let told = |what: &str| format!("{}: {what}", directory.display());
    loop {
        let mounts = std::fs::read_to_string("/proc/self/mounts").map_err(|error| told(&error.to_string()))?;
        // The last line that names the directory is what lies on top.
        let over = mounts.lines().rev().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            (fields.next().map(unescape).as_deref() == directory.as_os_str().to_str())
                .then(|| fields.next() == Some(TYPE))
        });
        if over != Some(true) {
            return Ok(());
        }
        let flags = UnmountFlags::DETACH | UnmountFlags::FORCE;
        rustix::mount::unmount(directory, flags).map_err(|errno| told(&format!("a stale mount stays: {errno}")))?;
    }
}

/// `/proc/mounts` writes blanks and the like as three octal digits.
fn unescape(field: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(field.into(), |text: String, (from, to)| text.replace(from, to))
}

/// Takes the private mount away.
///
/// # Errors
/// What umount2(2) says.
pub fn close(state: &Path, number: usize) -> Result<(), Errno> {
    rustix::mount::unmount(path(state, number), UnmountFlags::DETACH)
}

fn is_mount(path: &Path) -> Result<bool, Errno> {
    let attributes = |path: &Path| {
        rustix::fs::statx(rustix::fs::CWD, path, rustix::fs::AtFlags::empty(), rustix::fs::StatxFlags::MNT_ID)
    };
    let parent = path.parent().unwrap_or(Path::new("/"));
    Ok(attributes(path)?.stx_mnt_id != attributes(parent)?.stx_mnt_id)
}
