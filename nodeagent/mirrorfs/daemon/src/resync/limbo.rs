//! The hidden folder of a copy that holds what has no name: nameless files, what a resync makes and what it sets aside.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mirrorfs_fs::id::FileId;
use mirrorfs_fs::tree::{Tree, statx};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

/// Every entry of a directory but `.` and `..`.
///
/// # Errors
/// What reading it says.
pub fn entries(folder: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::openat(folder, ".", flags, Mode::empty())?;
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut listing = RawDir::new(&open, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = listing.next() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Deletes all that is in the hidden folder: nothing there has a name that anybody could know.
///
/// # Errors
/// What the file system says.
pub fn empty(tree: &Tree) -> Result<(), Errno> {
    delete_all(tree, tree.limbo())
}

fn delete_all(tree: &Tree, folder: BorrowedFd<'_>) -> Result<(), Errno> {
    // Own stack instead of recursion: what was set aside may be deep.
    let mut stack = vec![(open_folder(folder, b".")?, entries(folder)?)];
    let mut names: Vec<Vec<u8>> = Vec::new();
    while let Some((at, left)) = stack.last_mut() {
        let Some(name) = left.pop() else {
            stack.pop();
            if let (Some((parent, _)), Some(name)) = (stack.last(), names.pop()) {
                rustix::fs::unlinkat(parent, &name[..], AtFlags::REMOVEDIR)?;
            }
            continue;
        };
        let fd = mirrorfs_fs::perform::open_entry(at, &name)?;
        let stat = statx(fd.as_fd())?;
        let directory = FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory;
        if directory || stat.stx_nlink == 1 {
            forget(tree, fd.as_fd())?;
        }
        if directory {
            let inner = open_folder(at.as_fd(), &name)?;
            let below = entries(inner.as_fd())?;
            names.push(name);
            stack.push((inner, below));
        } else {
            rustix::fs::unlinkat(at, &name[..], AtFlags::empty())?;
        }
    }
    Ok(())
}

fn open_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// The inode's id leads nowhere from now on.
fn forget(tree: &Tree, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let Some(id) = tree.id_of(fd)?.filter(|id| *id != FileId::ROOT) else { return Ok(()) };
    if tree.index.get(id)? == Some(mirrorfs_fs::sys::handle_of(fd)?) {
        tree.index.remove(id)?;
        tree.late.forget(id);
    }
    Ok(())
}
