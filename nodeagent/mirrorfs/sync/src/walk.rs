//! The walk: compares the whole copy with the target's, directory by directory, and names what differs.
//!
//! Several threads, no locks (but a directory's, where a file has no id yet), bounded memory: a stack of directories' ids, and a
//! few hundred entries a thread. Nothing is sent but digests.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mirrorfs_fs::id::FileId;
use mirrorfs_fs::locks::Span;
use mirrorfs_fs::mirror::Mirror;
use mirrorfs_fs::perform::open_entry;
use mirrorfs_fs::sys;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::cursors::FileCursor;
use crate::extents;
use crate::meta::Meta;
use crate::names::{Census, Listing};
use crate::object::Object;
use crate::pace::Counters;
use crate::peer::Line;
use crate::question::{ENTRIES, Led, Named, Question, answer};
use crate::sight::{is_small, reopen, sight};
use crate::source::{Failure, LINES, Name, Source};

/// What differs in an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Differs {
    /// A directory's names, or what they lead to.
    Names,
    /// Attributes; at first sight perhaps a small file's data as well.
    Attributes,
    /// A file's data, and perhaps its attributes.
    Data,
}

/// Told of each object that differs; of a large file also where.
pub(crate) type Found<'f> = &'f (dyn Fn(Object, Differs, Option<FileCursor>) + Sync);

struct Work {
    stack: Vec<Object>,
    busy: usize,
    failed: Option<Failure>,
}

/// The directories that are still to be walked, and who waits for more.
struct Queue {
    work: Mutex<Work>,
    more: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next directory; `None` when all is done, or something failed.
    fn take(&self) -> Option<Object> {
        let mut work = self.lock();
        loop {
            if work.failed.is_some() {
                return None;
            }
            if let Some(next) = work.stack.pop() {
                work.busy += 1;
                return Some(next);
            }
            if work.busy == 0 {
                return None;
            }
            work = self.more.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn push(&self, directory: Object) {
        self.lock().stack.push(directory);
        self.more.notify_one();
    }

    fn done(&self, result: Result<(), Failure>) {
        let mut work = self.lock();
        work.busy -= 1;
        if let Err(failure) = result {
            work.failed.get_or_insert(failure);
        }
        self.more.notify_all();
    }
}

impl Source {
    /// Compares everything and names what differs, for a resync whose logs don't say what may.
    ///
    /// # Errors
    /// `Failure`; what differs may not have been named then. `Ended` once another session has begun.
    pub fn walk(&self, session: u32, name: Name<'_>) -> Result<(), Failure> {
        self.compare_all(session, &|object, _, cursor| {
            if let Some(cursor) = cursor {
                self.cursors.keep(object, cursor);
            }
            Counters::add(&self.counters.named, 1);
            name(object.into());
        })
    }

    /// Compares everything.
    pub(crate) fn compare_all(&self, session: u32, found: Found<'_>) -> Result<(), Failure> {
        let roots = (0..self.mirrors.len() as u16).map(|tree| Object { tree, id: FileId::ROOT });
        let work = Work { stack: roots.collect(), busy: 0, failed: None };
        let queue = Queue { work: Mutex::new(work), more: Condvar::new() };
        std::thread::scope(|scope| {
            for _ in 0..LINES {
                scope.spawn(|| {
                    while let Some(directory) = queue.take() {
                        queue.done(self.compare_directory(session, directory, &queue, found));
                    }
                });
            }
        });
        let work = queue.work.into_inner().unwrap_or_else(PoisonError::into_inner);
        work.failed.map_or(Ok(()), Err)
    }

    fn compare_directory(&self, session: u32, of: Object, queue: &Queue, found: Found<'_>) -> Result<(), Failure> {
        let io = |errno| Failure::Io(of, errno);
        let mirror = &*self.mirrors[usize::from(of.tree)];
        let opened = mirror.tree().open_id(of.id, OFlags::PATH | OFlags::NOFOLLOW);
        let listing = opened.and_then(|fd| {
            let meta = Meta::of(mirror.tree(), fd.as_fd(), of.id)?;
            Ok((meta, Listing::open(mirror.tree(), mirror.exclude(), &fd, of.id)?))
        });
        let (meta, mut listing) = match listing {
            Ok(listing) => listing,
            // Gone since it was listed: its parent's change says so.
            Err(Errno::STALE | Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(io(errno)),
        };
        self.with_line(|line| {
            self.ask(line, &Question::Inode { of, meta: meta.digest(), size: 0, first: 0, extents: Vec::new() })?;
            let there = answer::inode(&line.answer()?)?;
            if there.there && !there.same {
                found(of, Differs::Attributes, None);
            }
            let mut census = Census::default();
            let mut names_differ = !there.there;
            let mut before: Option<Vec<Sighted>> = None;
            loop {
                self.goes_on(session)?;
                self.wait_for_pace();
                // The next entries are looked at while the other side looks at those before.
                let chunk = self.sighted(mirror, of, &mut listing, &mut census).map_err(io)?;
                if let Some(before) = before.take() {
                    names_differ |= self.judge(line, of, before, queue, found)?;
                }
                if chunk.is_empty() {
                    break;
                }
                let entries = chunk.iter().map(|one| one.named.clone()).collect();
                self.ask(line, &Question::Entries { of, entries })?;
                before = Some(chunk);
            }
            self.ask(line, &Question::Census { of })?;
            names_differ |= answer::census(&line.answer()?)? != Some(census);
            if names_differ {
                found(of, Differs::Names, None);
            }
            Counters::add(&self.counters.compared, 1);
            Ok(())
        })
    }

    /// Takes the answer about some entries, and looks closer where it is needed. Returns whether names differ.
    fn judge(
        &self,
        line: &mut dyn Line,
        of: Object,
        entries: Vec<Sighted>,
        queue: &Queue,
        found: Found<'_>,
    ) -> Result<bool, Failure> {
        let led = answer::entries(&line.answer()?, entries.len())?;
        let mut names_differ = false;
        for (entry, led) in entries.into_iter().zip(led) {
            let object = Object { tree: of.tree, id: entry.named.id };
            let directory = FileType::from_raw_mode(entry.named.kind) == FileType::Directory;
            names_differ |= !matches!(led, Led::Same | Led::Different);
            match led {
                // Its directory's copy brings it, or its id, and has the rest of it copied.
                Led::Absent | Led::Nameless | Led::NamelessSame => {}
                // A directory that is there is compared when its turn comes.
                Led::Same | Led::Different | Led::Elsewhere if directory => queue.push(object),
                Led::Same if entry.small => {}
                Led::Same | Led::Elsewhere if !entry.small => self.judge_data(line, object, found)?,
                _ => found(object, Differs::Attributes, None),
            }
        }
        Ok(names_differ)
    }

    /// Compares a large file's data.
    fn judge_data(&self, line: &mut dyn Line, object: Object, found: Found<'_>) -> Result<(), Failure> {
        let io = |errno| Failure::Io(object, errno);
        let tree = self.mirrors[usize::from(object.tree)].tree();
        // By its id: another inode may have the name by now.
        let file = match tree.open_id(object.id, OFlags::PATH | OFlags::NOFOLLOW).and_then(|fd| {
            let meta = Meta::of(tree, fd.as_fd(), object.id)?;
            Ok((meta, reopen(&fd, OFlags::RDONLY)?))
        }) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::STALE) => return Ok(()),
            Err(errno) => return Err(io(errno)),
        };
        let mut all = FileCursor::default();
        let count = extents::count(file.0.size);
        loop {
            // In steps, each with its own: what differs is collected over all of them.
            let mut step = FileCursor::at(all.next);
            let deadline = Instant::now() + Duration::from_secs(1);
            self.compare_file(line, object, (&file.0, Some(&file.1)), &mut step, deadline)?;
            all.next = step.next;
            all.dirty |= step.dirty;
            step.differing.into_iter().flatten().for_each(|extent| all.differs(extent));
            self.wait_for_pace();
            if all.next >= count {
                break;
            }
        }
        match (all.differing.is_empty(), all.dirty) {
            (true, false) => {}
            (true, true) => found(object, Differs::Attributes, None),
            (false, _) => found(object, Differs::Data, Some(all)),
        }
        Ok(())
    }

    /// The next entries, with what each looks like.
    fn sighted(
        &self,
        mirror: &Mirror,
        of: Object,
        listing: &mut Listing,
        census: &mut Census,
    ) -> Result<Vec<Sighted>, Errno> {
        let mut chunk = Vec::new();
        while chunk.len() < ENTRIES {
            let Some((name, _)) = listing.next(mirror.exclude())? else { break };
            census.add(&name);
            match self.look(mirror, of, listing.fd(), name) {
                Ok(one) => chunk.push(one),
                // Gone since it was listed: its own change says so.
                Err(Errno::NOENT | Errno::STALE) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(chunk)
    }

    fn look(&self, mirror: &Mirror, of: Object, directory: &OwnedFd, name: Vec<u8>) -> Result<Sighted, Errno> {
        let mut fd = open_entry(directory, &name)?;
        let id = match mirror.tree().identity(fd.as_fd(), &sys::handle_of(fd.as_fd())?)? {
            Some(id) => id,
            None => {
                let _guard = mirror.locks().hold([Span::whole(of.id)]);
                fd = open_entry(directory, &name)?;
                mirror.identify(fd.as_fd())?
            }
        };
        let (meta, digest, read) = sight(mirror.tree(), &fd, id)?;
        Counters::add(&self.counters.read, read);
        let directory = meta.kind() == FileType::Directory;
        Counters::add(&self.counters.compared, u64::from(!directory));
        let small = is_small(&meta) || meta.kind() != FileType::RegularFile;
        let sight = (!directory).then_some(digest);
        Ok(Sighted { named: Named { name, id, kind: meta.kind().as_raw_mode(), sight }, small })
    }
}

/// An entry and whether all of it is in its digest.
struct Sighted {
    named: Named,
    small: bool,
}
