//! Verification: both copies are compared while the application goes on, and what differs is mended from this one.
//!
//! A comparison without locks may catch a change between the two sides, so what it finds is only suspected. `mend` looks again
//! with the object's lock held: then nothing is on its way, and what differs really does.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use mirror_core::message::Outcome;
use mirrorfs_fs::locks::Span;
use mirrorfs_fs::tree::{proc_path, statx};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::body::Draft;
use crate::cursors::{DirectoryCursor, FileCursor};
use crate::extents;
use crate::meta::Meta;
use crate::object::Object;
use crate::peer::{Line, Lost};
use crate::question::BLOCK_EXTENTS;
use crate::sight::is_small;
use crate::source::{Failure, Name, Source};

pub use crate::walk::Differs;

/// How long one look may take: the object is locked meanwhile.
const LOOKING: Duration = Duration::from_millis(50);

/// An object that seems to differ, and where.
pub struct Suspect {
    /// Which.
    pub object: Object,
    at: Place,
    /// It was found to differ before: it counts once.
    counted: bool,
}

enum Place {
    Unknown,
    File(FileCursor),
    Directory(DirectoryCursor),
}

impl Suspect {
    /// One that is looked at whole.
    pub fn whole(object: Object) -> Suspect {
        // It counts as a part of the directory that lacked it.
        Suspect { object, at: Place::File(FileCursor::default()), counted: true }
    }
}

/// What a second look showed.
pub struct Look {
    /// What differs, and under which path, of an object that was not counted yet.
    pub differs: Option<(Differs, String)>,
    /// Bytes of data that differ.
    pub bytes: u64,
    /// What the peer said to the body that mends it; `None`: none was sent.
    pub outcome: Option<Outcome>,
    /// There is more of it to be looked at.
    pub more: Option<Suspect>,
}

const EQUAL: Look = Look { differs: None, bytes: 0, outcome: None, more: None };

/// What is to be sent, and what was found.
struct Made {
    draft: Draft,
    differs: Option<Differs>,
    bytes: u64,
    more: Option<Place>,
}

/// Carries a body to the peer, with the object's lock held.
pub type Carry<'c> = &'c mut dyn FnMut(&[u8]) -> Result<Outcome, Lost>;

impl Source {
    /// Compares everything; tells of each object that seems to differ.
    ///
    /// # Errors
    /// `Failure`: not everything was compared.
    pub fn verify(&self, session: u32, suspect: &(dyn Fn(Suspect) + Sync)) -> Result<(), Failure> {
        self.compare_all(session, &|object, _, cursor| {
            suspect(Suspect { object, at: cursor.map_or(Place::Unknown, Place::File), counted: false });
        })
    }

    /// Looks again at a suspect, and has carried what mends it, if there is a `carry`. `name` is told of what is to be looked at
    /// besides.
    ///
    /// # Errors
    /// `Failure`: nothing is known of it.
    pub fn mend(&self, suspect: Suspect, name: Name<'_>, carry: Option<Carry<'_>>) -> Result<Look, Failure> {
        let of = suspect.object;
        let mirror = &self.mirrors[usize::from(of.tree)];
        let _guard = mirror.locks().hold([Span::whole(of.id)]);
        let io = |errno| Failure::Io(of, errno);
        let fd = match mirror.tree().open_id(of.id, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) => fd,
            // Gone since.
            Err(Errno::STALE) => return Ok(EQUAL),
            Err(errno) => return Err(io(errno)),
        };
        let stat = statx(fd.as_fd()).map_err(io)?;
        if stat.stx_nlink == 0 {
            return Ok(EQUAL);
        }
        let directory = FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory;
        let made = self.with_line(|line| match suspect.at {
            Place::Directory(cursor) => self.look_at_directory(line, (of, &fd), Some(cursor), name),
            _ if directory => self.look_at_directory(line, (of, &fd), None, name),
            Place::File(cursor) => self.look_at_file(line, (of, &fd), Some(cursor)),
            Place::Unknown => self.look_at_file(line, (of, &fd), None),
        })?;
        // The peer lacks it: the copy of its directory brings it.
        let Some(made) = made else { return Ok(EQUAL) };
        let counted = suspect.counted || made.differs.is_some();
        let outcome = match carry.filter(|_| made.differs.is_some()) {
            Some(carry) => {
                let body = made.draft.finish();
                self.sent(&body);
                Some(carry(body.bytes())?)
            }
            None => None,
        };
        Ok(Look {
            differs: made.differs.filter(|_| !suspect.counted).map(|differs| (differs, self.path(of, &fd))),
            bytes: made.bytes,
            outcome,
            more: made.more.map(|at| Suspect { object: of, at, counted }),
        })
    }

    fn look_at_directory(
        &self,
        line: &mut dyn Line,
        (of, fd): (Object, &OwnedFd),
        cursor: Option<DirectoryCursor>,
        name: Name<'_>,
    ) -> Result<Option<Made>, Failure> {
        let tree = self.mirrors[usize::from(of.tree)].tree();
        let meta = Meta::of(tree, fd.as_fd(), of.id).map_err(|errno| Failure::Io(of, errno))?;
        let empty = Draft::new(of, Some(&meta)).len();
        let Some((draft, rest)) = self.directory(line, (of, fd), cursor, name)? else { return Ok(None) };
        let dirty = rest.as_ref().map_or(draft.len() >= empty, |cursor| cursor.dirty);
        let kind = if draft.len() > empty { Differs::Names } else { Differs::Attributes };
        let more = rest.map(Place::Directory);
        Ok(Some(Made { draft, differs: dirty.then_some(kind), bytes: 0, more }))
    }

    fn look_at_file(
        &self,
        line: &mut dyn Line,
        (of, fd): (Object, &OwnedFd),
        cursor: Option<FileCursor>,
    ) -> Result<Option<Made>, Failure> {
        let (meta, file) = self.attributes_and_data(of, fd)?;
        // Of a larger file whose data is not suspected only the attributes are looked at.
        let from = if is_small(&meta) { 0 } else { extents::count(meta.size) };
        let mut cursor = cursor.unwrap_or_else(|| FileCursor::at(from));
        let deadline = Instant::now() + LOOKING;
        if !self.compare_file(line, of, (&meta, file.as_ref()), &mut cursor, deadline)? {
            return Ok(None);
        }
        let attributes = cursor.dirty;
        let mut differing = Vec::new();
        if let Some(file) = &file {
            let suspected = cursor.first(BLOCK_EXTENTS);
            for (extent, mask) in self.blocks(line, of, (file, meta.size), &suspected)? {
                cursor.sent();
                if mask != 0 {
                    differing.push((extent, mask));
                }
            }
        }
        let kind = if !differing.is_empty() { Some(Differs::Data) } else { attributes.then_some(Differs::Attributes) };
        let mut draft = Draft::new(of, Some(&meta).filter(|_| kind.is_some()));
        let mut bytes = 0;
        for (extent, mask) in differing {
            if draft.is_full() {
                cursor.differs(extent);
                continue;
            }
            bytes += extents::masked_bytes(mask);
            // Only read here: the lock is held.
            let file = file.as_ref().ok_or(Failure::Io(of, Errno::STALE))?;
            extents::write_out(file.as_fd(), extent, mask, draft.data()).map_err(|errno| Failure::Io(of, errno))?;
        }
        cursor.dirty = false;
        let more = cursor.extents() > 0 || cursor.next < extents::count(meta.size);
        Ok(Some(Made { draft, differs: kind, bytes, more: more.then_some(Place::File(cursor)) }))
    }

    /// An object's path in its replicated directory, for people.
    fn path(&self, of: Object, fd: &OwnedFd) -> String {
        let path = |fd: &OwnedFd| rustix::fs::readlink(proc_path(fd.as_fd()), Vec::new()).unwrap_or_default();
        let (root, path) = (path(self.mirrors[usize::from(of.tree)].tree().root()), path(fd));
        let below = path.to_bytes().strip_prefix(root.to_bytes()).unwrap_or(path.to_bytes());
        let text = String::from_utf8_lossy(below).into_owned();
        if text.is_empty() { "/".into() } else { text }
    }
}
