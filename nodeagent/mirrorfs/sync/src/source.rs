//! The source: compares an object with the target's, and puts into one body what the target lacks.
//!
//! It works on any number of threads. It holds a directory's lock while the copy of that directory travels, so that no name
//! changes meanwhile; a file it reads without any lock, while the application goes on (`lib.rs` says why that is right).

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mirror_core::ids::ObjectId;
use mirror_core::message::Outcome;
use mirrorfs_fs::locks::Span;
use mirrorfs_fs::mirror::Mirror;
use mirrorfs_fs::tree::statx;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::body::Draft;
use crate::cursors::{Cursor, Cursors, FileCursor};
use crate::extents;
use crate::meta::Meta;
use crate::object::Object;
use crate::pace::{Counters, Pace, Progress};
use crate::peer::{Line, Lost, Peer};
use crate::question::{BLOCK_EXTENTS, EXTENTS, Question, answer};
use crate::sight::reopen;
use crate::unfound::Unfound;

/// How many threads walk, with a line each; copies use as many lines as there are threads that copy.
pub const LINES: usize = 4;
/// How long one copy compares before it sends what it has: what comes after it on the same object waits that long.
const COMPARING: Duration = Duration::from_millis(50);
/// How long a copy waits for a directory's, before it comes up again.
const ABSENT: Duration = Duration::from_millis(5);
/// How long no directory's copy brings an inode before it is looked for.
const MISSING: Duration = Duration::from_secs(10);
/// How long it takes at most until whoever waits for bandwidth notices that it need not.
const NOTICING: Duration = Duration::from_millis(100);
/// How long a copy waits for a directory that others are at work on.
const PATIENCE: Duration = Duration::from_millis(200);

/// Why something did not come to its end.
#[derive(Debug)]
pub enum Failure {
    /// The other side can't be asked.
    Lost(Lost),
    /// This copy can't be read.
    Io(Object, Errno),
    /// Another resync has begun, or none is to go on.
    Ended,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Lost(lost) => lost.fmt(f),
            Failure::Io(object, errno) => write!(f, "reading {} of directory {}: {errno}", object.id, object.tree),
            Failure::Ended => f.write_str("the resync was given up"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Failure {
        Failure::Lost(lost)
    }
}

/// What a copy tells the core of further objects by.
pub type Name<'n> = &'n (dyn Fn(ObjectId) + Sync);

/// The copy that others are made equal to.
pub struct Source {
    pub(crate) mirrors: Vec<Arc<Mirror>>,
    pub(crate) peer: Arc<dyn Peer>,
    pub(crate) cursors: Cursors,
    pub(crate) counters: Counters,
    pace: Pace,
    session: AtomicU32,
    begun: Mutex<Instant>,
    lines: Mutex<Vec<Box<dyn Line>>>,
    /// Since when the target lacks what was to be copied.
    missing: Mutex<HashMap<Object, Instant>>,
    /// What was to be copied and is not here, or not in the index.
    pub(crate) unfound: Unfound,
    searched: AtomicBool,
    stopped: AtomicBool,
}

impl Source {
    /// The replicated directories, in the configuration's order, as they are served (or would be). `rate` in bytes a
    /// second; 0: as fast as it goes.
    pub fn new(mirrors: Vec<Arc<Mirror>>, peer: Arc<dyn Peer>, rate: u64) -> Source {
        Source {
            mirrors,
            peer,
            cursors: Cursors::default(),
            counters: Counters::default(),
            pace: Pace::new(rate),
            session: AtomicU32::new(0),
            begun: Mutex::new(Instant::now()),
            lines: Mutex::default(),
            missing: Mutex::default(),
            unfound: Unfound::default(),
            searched: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    /// What goes on is to end soon: nothing waits for its bandwidth any more, and no walk goes on.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// A resync begins (or none: 0): whatever another one found out no longer counts, and its walk
    /// ends. The copies of another one must have ended.
    pub fn begin(&self, session: u32) {
        self.session.store(session, Ordering::SeqCst);
        self.stopped.store(false, Ordering::SeqCst);
        self.cursors.clear();
        self.counters.clear();
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.unfound.clear();
        self.searched.store(false, Ordering::SeqCst);
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether this resync is still the one that goes on.
    pub(crate) fn goes_on(&self, session: u32) -> Result<(), Failure> {
        let same = self.session.load(Ordering::SeqCst) == session && !self.stopped.load(Ordering::SeqCst);
        if same { Ok(()) } else { Err(Failure::Ended) }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let inodes = self.mirrors.iter().filter_map(|mirror| rustix::fs::fstatvfs(&**mirror.tree().root()).ok());
        let value = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Progress {
            elapsed: begun.elapsed(),
            compared: value(&counters.compared),
            to_compare: inodes.map(|stat| stat.f_files.saturating_sub(stat.f_ffree)).max().unwrap_or(0),
            read: value(&counters.read),
            named: value(&counters.named),
            copied: value(&counters.copied),
            asked: value(&counters.asked),
            sent: value(&counters.sent),
        }
    }

    /// How many bytes of an object are known to differ; `None` where nothing is known.
    pub fn differing(&self, object: ObjectId) -> Option<u64> {
        self.cursors.differing(Object::from_core(object)?)
    }

    /// The target answered `NotYet` to a change of this object: what was compared of it no longer counts.
    pub fn refused(&self, object: ObjectId) {
        if let Some(object) = Object::from_core(object) {
            self.cursors.spoil(object);
        }
    }

    /// Compares one object and has what differs carried to the target: all of it, or as much as fits one body.
    ///
    /// `name` is told of further objects that must be copied, before anything is carried. `carry` is called exactly once,
    /// whatever happens: it sends the operation with this body, and returns what the target answered.
    ///
    /// # Errors
    /// `Lost` of `carry` or of a question; `Io` where this copy can't be read.
    pub fn copy(
        &self,
        object: ObjectId,
        name: Name<'_>,
        carry: &mut dyn FnMut(&[u8]) -> Result<Outcome, Lost>,
    ) -> Result<Outcome, Failure> {
        let Some(of) = Object::from_core(object).filter(|of| usize::from(of.tree) < self.mirrors.len()) else {
            let nothing = Object { tree: 0, id: mirrorfs_fs::id::FileId::ROOT };
            return Ok(carry(Draft::gone(nothing).bytes())?);
        };
        let mut carried = false;
        let mut carry_once = |draft: &Draft| {
            carried = true;
            self.sent(draft);
            carry(draft.bytes())
        };
        let result = self.copy_object(of, name, &mut carry_once);
        // Paid for afterwards: what comes behind this copy on the same object need not wait for that.
        self.wait_for_pace();
        match result {
            Ok(outcome) => {
                Counters::add(&self.counters.copied, u64::from(outcome == Outcome::Done));
                Ok(outcome)
            }
            Err(failure) if carried => Err(failure),
            Err(failure) => {
                carry(Draft::new(of, None).bytes())?;
                Err(failure)
            }
        }
    }

    fn copy_object(
        &self,
        of: Object,
        name: Name<'_>,
        carry: &mut dyn FnMut(&Draft) -> Result<Outcome, Lost>,
    ) -> Result<Outcome, Failure> {
        let Some(cursor) = self.cursors.take(of) else {
            // Its own copy is on its way: this one comes up again, a little later.
            std::thread::sleep(Duration::from_millis(2));
            return Ok(carry(&Draft::new(of, None))?);
        };
        let mut next = None;
        let result = self.copy_taken(of, cursor, name, carry, &mut next);
        self.cursors.put_back(of, next.filter(|_| result.is_ok()));
        result
    }

    fn copy_taken(
        &self,
        of: Object,
        cursor: Option<Cursor>,
        name: Name<'_>,
        carry: &mut dyn FnMut(&Draft) -> Result<Outcome, Lost>,
        next: &mut Option<Cursor>,
    ) -> Result<Outcome, Failure> {
        let io = |errno| Failure::Io(of, errno);
        let mirror = &self.mirrors[usize::from(of.tree)];
        let Some(fd) = self.open(of, name)? else { return Ok(carry(&Draft::gone(of))?) };
        let stat = statx(fd.as_fd()).map_err(io)?;
        if stat.stx_nlink == 0 {
            return Ok(carry(&Draft::gone(of))?);
        }
        if FileType::from_raw_mode(u32::from(stat.stx_mode)) != FileType::Directory {
            let cursor = match cursor {
                Some(Cursor::File(cursor)) => Some(cursor),
                _ => None,
            };
            let (draft, rest) = match self.with_line(|line| self.file(line, of, &fd, cursor))? {
                Some(made) => made,
                None => return self.absent(of, name, carry),
            };
            *next = rest.map(Cursor::File);
            return Ok(carry(&draft)?);
        }
        let Some(guard) = mirror.locks().hold_within(Span::whole(of.id), PATIENCE) else {
            return Ok(carry(&Draft::new(of, None))?);
        };
        let cursor = match cursor {
            Some(Cursor::Directory(cursor)) => Some(cursor),
            _ => None,
        };
        let (draft, rest) = match self.with_line(|line| self.directory(line, (of, &fd), cursor, name))? {
            Some(made) => made,
            None => {
                drop(guard);
                return self.absent(of, name, carry);
            }
        };
        *next = rest.map(Cursor::Directory);
        Ok(carry(&draft)?)
    }

    /// The inode, by its id. `None`: it is gone; or a crash took it out of the index, and the copy of its directory, which was
    /// changed when it was made, finds it and names it.
    fn open(&self, of: Object, name: Name<'_>) -> Result<Option<OwnedFd>, Failure> {
        let tree = self.mirrors[usize::from(of.tree)].tree();
        let open = || match tree.open_id(of.id, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::STALE) => Ok(None),
            Err(errno) => Err(Failure::Io(of, errno)),
        };
        if let Some(fd) = open()? {
            return Ok(Some(fd));
        }
        self.unfound.note(of);
        // Of what a lost page named no directory need have changed. Between two in sync this would keep writes waiting.
        if tree.index.has_lost() && self.session.load(Ordering::SeqCst) != 0 {
            self.search(name)?;
        }
        open()
    }

    /// Compares everything, once.
    fn search(&self, name: Name<'_>) -> Result<(), Failure> {
        if self.searched.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let walked = self.walk(self.session.load(Ordering::SeqCst), name);
        walked.inspect_err(|_| self.searched.store(false, Ordering::SeqCst))
    }

    /// The target has no such inode: the copy of a directory makes it, which is on its way or will be. Where none comes, no log
    /// says what is missing, and everything is compared.
    fn absent(
        &self,
        of: Object,
        name: Name<'_>,
        carry: &mut dyn FnMut(&Draft) -> Result<Outcome, Lost>,
    ) -> Result<Outcome, Failure> {
        let since = *self.missing.lock().unwrap_or_else(PoisonError::into_inner).entry(of).or_insert_with(Instant::now);
        if since.elapsed() > MISSING {
            self.search(name)?;
        }
        std::thread::sleep(ABSENT);
        Ok(carry(&Draft::new(of, None))?)
    }

    /// What is compared of anything but a directory: its attributes, and its data where it has some.
    pub(crate) fn attributes_and_data(&self, of: Object, fd: &OwnedFd) -> Result<(Meta, Option<OwnedFd>), Failure> {
        let io = |errno| Failure::Io(of, errno);
        let tree = self.mirrors[usize::from(of.tree)].tree();
        let meta = Meta::of(tree, fd.as_fd(), of.id).map_err(io)?;
        let file = match meta.kind() {
            FileType::RegularFile => Some(reopen(fd, OFlags::RDONLY).map_err(io)?),
            _ => None,
        };
        Ok((meta, file))
    }

    /// A body for anything but a directory, and where to go on; `None`: the target has no such inode.
    fn file(
        &self,
        line: &mut dyn Line,
        of: Object,
        fd: &OwnedFd,
        cursor: Option<FileCursor>,
    ) -> Result<Option<(Draft, Option<FileCursor>)>, Failure> {
        let (meta, file) = self.attributes_and_data(of, fd)?;
        let mut cursor = cursor.unwrap_or_default();
        let deadline = Instant::now() + COMPARING;
        if !self.compare_file(line, of, (&meta, file.as_ref()), &mut cursor, deadline)? {
            return Ok(None);
        }
        // Whoever writes data changes times: they follow with the last of it.
        cursor.dirty |= !cursor.differing.is_empty();
        let mut draft = Draft::new(of, Some(&meta).filter(|_| cursor.dirty));
        if let Some(file) = &file {
            self.put_data(line, of, (file, meta.size), &mut cursor, &mut draft)?;
        }
        let finished = cursor.differing.is_empty() && cursor.next >= extents::count(meta.size);
        Ok(Some(if finished { (draft.finish(), None) } else { (draft, Some(cursor)) }))
    }

    /// Compares from where the cursor stands on, until enough differs or the deadline is past. Returns whether the target has
    /// the inode at all.
    pub(crate) fn compare_file(
        &self,
        line: &mut dyn Line,
        of: Object,
        (meta, file): (&Meta, Option<&OwnedFd>),
        cursor: &mut FileCursor,
        deadline: Instant,
    ) -> Result<bool, Failure> {
        let count = extents::count(meta.size);
        let mut asked = VecDeque::new();
        let (mut there, mut begun) = (true, false);
        loop {
            // The next digests are made while the other side makes its own.
            let more = there && cursor.next < count && !cursor.is_enough() && Instant::now() < deadline;
            if (!begun || more) && asked.len() < 2 {
                let length = EXTENTS.min(count.saturating_sub(cursor.next));
                let digests = match file {
                    Some(file) if length > 0 => {
                        let read = extents::digests(file.as_fd(), cursor.next, length, meta.size);
                        let (digests, read) = read.map_err(|errno| Failure::Io(of, errno))?;
                        Counters::add(&self.counters.read, read);
                        digests
                    }
                    _ => Vec::new(),
                };
                let (size, first) = (meta.size, cursor.next);
                self.ask(line, &Question::Inode { of, meta: meta.digest(), size, first, extents: digests })?;
                asked.push_back(cursor.next);
                cursor.next += length;
                begun = true;
                continue;
            }
            let Some(at) = asked.pop_front() else { return Ok(there) };
            let inode = answer::inode(&line.answer()?)?;
            there &= inode.there;
            cursor.dirty |= !inode.same;
            inode.differing.iter().for_each(|extent| cursor.differs(at + u64::from(*extent)));
        }
    }

    /// Moves what differs from the cursor into the body, until that is full. Where little differs, the blocks of each extent are
    /// compared first.
    fn put_data(
        &self,
        line: &mut dyn Line,
        of: Object,
        (file, size): (&OwnedFd, u64),
        cursor: &mut FileCursor,
        draft: &mut Draft,
    ) -> Result<(), Failure> {
        let io = |errno| Failure::Io(of, errno);
        while !draft.is_full() {
            let next = cursor.first(BLOCK_EXTENTS);
            if next.is_empty() {
                break;
            }
            let masked = if cursor.is_sparse() {
                self.blocks(line, of, (file, size), &next)?
            } else {
                next.into_iter().map(|extent| (extent, extents::ALL)).collect()
            };
            for (extent, mask) in masked {
                if draft.is_full() {
                    break;
                }
                if mask != 0 {
                    extents::write_out(file.as_fd(), extent, mask, draft.data()).map_err(io)?;
                }
                cursor.sent();
            }
        }
        Ok(())
    }

    /// Which blocks of these extents (at most `BLOCK_EXTENTS`) differ.
    pub(crate) fn blocks(
        &self,
        line: &mut dyn Line,
        of: Object,
        (file, size): (&OwnedFd, u64),
        which: &[u64],
    ) -> Result<Vec<(u64, u16)>, Failure> {
        if which.is_empty() {
            return Ok(Vec::new());
        }
        let mut extents = Vec::with_capacity(which.len());
        for extent in which {
            let made = extents::block_digests(file.as_fd(), *extent, size);
            let (digests, read) = made.map_err(|errno| Failure::Io(of, errno))?;
            Counters::add(&self.counters.read, read);
            extents.push((*extent, digests));
        }
        self.ask(line, &Question::Blocks { of, size, extents })?;
        let masks = answer::blocks(&line.answer()?, which.len())?;
        Ok(which.iter().copied().zip(masks).collect())
    }

    /// A body is sent: it counts, and has to be paid for.
    pub(crate) fn sent(&self, body: &Draft) {
        self.spent(&self.counters.sent, body.len());
    }

    /// Sends a question, within the bandwidth.
    pub(crate) fn ask(&self, line: &mut dyn Line, question: &Question) -> Result<(), Lost> {
        let bytes = question.encode();
        self.spent(&self.counters.asked, bytes.len());
        line.send(&bytes)
    }

    fn spent(&self, counter: &std::sync::atomic::AtomicU64, bytes: usize) {
        Counters::add(counter, bytes as u64);
        self.pace.spent(Instant::now(), bytes as u64);
    }

    /// Waits until what was sent so far is within the bandwidth, or `stop` was called. Not to be called with a lock held.
    pub(crate) fn wait_for_pace(&self) {
        while !self.stopped.load(Ordering::SeqCst) {
            match self.pace.debt(Instant::now()) {
                Duration::ZERO => return,
                debt => std::thread::sleep(debt.min(NOTICING)),
            }
        }
    }

    /// Has a line at hand for as long as `work` takes. One on which anything went wrong is not used again.
    pub(crate) fn with_line<T>(&self, work: impl FnOnce(&mut dyn Line) -> Result<T, Failure>) -> Result<T, Failure> {
        let idle = self.lines.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut line = match idle {
            Some(line) => line,
            None => self.peer.line()?,
        };
        let result = work(&mut *line)?;
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        Ok(result)
    }
}
