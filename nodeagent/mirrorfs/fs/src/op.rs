//! Resolved operations: what a changing request *came to*, in a form that either copy can carry out.
//!
//! They name inodes by id and entries by (parent id, name), never by path, and carry results: the offset an
//! append came to, the mode after umask and default ACL, owner, times. Carrying one out twice on two equal copies
//! gives two equal copies. Wire form: `codec`. Carrying out: `perform`.

use crate::id::FileId;

/// The most data that one operation carries.
pub const DATA_MAX: usize = 1 << 20;
/// The longest name of an entry.
pub const NAME_MAX: usize = 255;
/// The longest target of a symbolic link.
pub const TARGET_MAX: usize = 4096;
/// The longest value of an extended attribute.
pub const XATTR_MAX: usize = 65536;

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time {
    pub sec: i64,
    pub nsec: u32,
}

impl Time {
    /// The kernel's own time stamp for files: the coarse clock, so that ours and the kernel's order alike.
    pub fn now() -> Time {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        Time { sec: now.tv_sec, nsec: now.tv_nsec as u32 }
    }
}

/// A directory entry: a name in a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    pub parent: FileId,
    pub name: &'a [u8],
}

/// What a new inode is to be; `mode` holds type and permissions, final.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Birth {
    pub id: FileId,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub time: Time,
}

/// Attributes to set; `None` leaves one as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<Time>,
    pub mtime: Option<Time>,
}

/// One changing operation, resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op<'a> {
    /// A new file, directory, link, FIFO, socket or device. `target` is a symbolic link's, `rdev` a device's.
    Create {
        entry: Entry<'a>,
        birth: Birth,
        rdev: u32,
        target: &'a [u8],
    },
    /// A file without a name (O_TMPFILE) made in `parent`; the secondary keeps it under a hidden one.
    Tmpfile {
        parent: FileId,
        birth: Birth,
    },
    /// A nameless file was closed without getting a name.
    Discard {
        id: FileId,
    },
    Link {
        id: FileId,
        entry: Entry<'a>,
        time: Time,
    },
    /// unlink, or rmdir where `directory`.
    Unlink {
        id: FileId,
        entry: Entry<'a>,
        directory: bool,
        time: Time,
    },
    /// `flags` are renameat2's NOREPLACE and EXCHANGE; `replaced` is what stood under the new name.
    Rename {
        id: FileId,
        from: Entry<'a>,
        to: Entry<'a>,
        replaced: Option<FileId>,
        flags: u32,
        time: Time,
    },
    Write {
        id: FileId,
        offset: u64,
        time: Time,
        data: &'a [u8],
    },
    SetAttr {
        id: FileId,
        changes: Changes,
        time: Time,
    },
    Allocate {
        id: FileId,
        mode: u32,
        offset: u64,
        length: u64,
        time: Time,
    },
    Copy {
        from: FileId,
        from_offset: u64,
        to: FileId,
        to_offset: u64,
        length: u64,
        time: Time,
    },
    SetXattr {
        id: FileId,
        flags: u32,
        name: &'a [u8],
        value: &'a [u8],
    },
    RemoveXattr {
        id: FileId,
        name: &'a [u8],
    },
    /// A barrier: the file's data (and metadata unless `data_only`) are on disk.
    Sync {
        id: FileId,
        data_only: bool,
    },
    /// A file that was there before the mirror gets its id.
    Adopt {
        id: FileId,
        entry: Entry<'a>,
    },
}

impl Op<'_> {
    /// The operation's name in metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Create { .. } => "create",
            Op::Tmpfile { .. } => "tmpfile",
            Op::Discard { .. } => "discard",
            Op::Link { .. } => "link",
            Op::Unlink { .. } => "unlink",
            Op::Rename { .. } => "rename",
            Op::Write { .. } => "write",
            Op::SetAttr { .. } => "setattr",
            Op::Allocate { .. } => "allocate",
            Op::Copy { .. } => "copy",
            Op::SetXattr { .. } => "setxattr",
            Op::RemoveXattr { .. } => "removexattr",
            Op::Sync { .. } => "sync",
            Op::Adopt { .. } => "adopt",
        }
    }
}
