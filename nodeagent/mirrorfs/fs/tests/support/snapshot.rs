//! All that can be seen of a directory tree, to compare two of them.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mirrorfs_fs::id::ID_XATTR;
use mirrorfs_fs::tree::HIDDEN;

/// Whether modification times must be equal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Times {
    Exact,
    Ignored,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    links: u64,
    rdev: u64,
    mtime: Option<(i64, i64)>,
    target: Option<PathBuf>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    data: u32,
    holes: Vec<(u64, u64)>,
    /// The first path of the same inode.
    group: PathBuf,
}

/// Fails with the first difference between two trees.
pub fn assert_same(left_name: &str, left: &Path, right_name: &str, right: &Path, times: Times) {
    let (left, right) = (snapshot(left, times), snapshot(right, times));
    for (path, seen) in &left {
        match right.get(path) {
            None => panic!("{path:?} is on {left_name} alone"),
            Some(other) => assert_eq!(seen, other, "{path:?}: {left_name} (left) and {right_name} (right) differ"),
        }
    }
    if let Some(path) = right.keys().find(|path| !left.contains_key(*path)) {
        panic!("{path:?} is on {right_name} alone");
    }
}

fn snapshot(root: &Path, times: Times) -> BTreeMap<PathBuf, Seen> {
    let mut paths = vec![PathBuf::new()];
    let mut at = 0;
    while at < paths.len() {
        let path = root.join(&paths[at]);
        if path.symlink_metadata().unwrap().is_dir() {
            for entry in std::fs::read_dir(&path).unwrap() {
                let name = entry.unwrap().file_name();
                if !(paths[at].as_os_str().is_empty() && name == HIDDEN) {
                    let below = paths[at].join(&name);
                    paths.push(below);
                }
            }
        }
        at += 1;
    }
    paths.sort();
    let mut groups = HashMap::new();
    paths.into_iter().map(|path| (path.clone(), see(root, path, times, &mut groups))).collect()
}

fn see(root: &Path, path: PathBuf, times: Times, groups: &mut HashMap<u64, PathBuf>) -> Seen {
    let full = root.join(&path);
    let meta = full.symlink_metadata().unwrap();
    let group = groups.entry(meta.ino()).or_insert_with(|| path.clone()).clone();
    let file = meta.file_type().is_file();
    // The root's own mtime and links come from preparing the test, our hidden folder among it.
    let top = path.as_os_str().is_empty();
    let device = meta.file_type().is_char_device() || meta.file_type().is_block_device();
    Seen {
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        // A directory's size and allocation are the file system's own affair.
        size: if meta.is_dir() { 0 } else { meta.size() },
        links: if top { 0 } else { meta.nlink() },
        rdev: if device { meta.rdev() } else { 0 },
        mtime: (times == Times::Exact && !top).then(|| (meta.mtime(), meta.mtime_nsec())),
        target: std::fs::read_link(&full).ok(),
        // Two copies agree on ids too; a plain directory has none.
        xattrs: xattrs(&full, times == Times::Exact),
        data: if file { crc32c::crc32c(&std::fs::read(&full).unwrap()) } else { 0 },
        holes: if file { holes(&full, meta.size()) } else { Vec::new() },
        group,
    }
}

fn xattrs(path: &Path, ids: bool) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && (ids || *name != ID_XATTR.as_bytes()))
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            (name.to_vec(), value)
        })
        .collect()
}

/// The ranges without data.
fn holes(path: &Path, size: u64) -> Vec<(u64, u64)> {
    use rustix::fs::SeekFrom;
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{:?}: {e}", path.as_os_str().as_bytes()));
    let (mut at, mut holes) = (0, Vec::new());
    while at < size {
        let start = rustix::fs::seek(&file, SeekFrom::Hole(at)).unwrap();
        if start >= size {
            break;
        }
        at = rustix::fs::seek(&file, SeekFrom::Data(start)).unwrap_or(size);
        holes.push((start, at));
    }
    holes
}
