//! The core's two state files: the durable state and the difference log, each in a preallocated file of two slots.
//!
//! A value goes to the slot that does not hold the newest one (`mirror_core::slots`), past the page cache and on the disk
//! before `write` returns (`O_DIRECT | O_DSYNC`), so it never waits behind gigabytes of dirty pages. A write that a crash
//! tears leaves the value before. Only files are here: what is to be written, and when, the core says.

use std::os::fd::OwnedFd;
use std::path::Path;

use mirror_core::difflog::{Epoch, Image};
use mirror_core::durable::Durable;
use mirror_core::slots::{self, Slotted};
use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// What `O_DIRECT` wants offsets, lengths and memory aligned to, on every disk we know.
const BLOCK: usize = 4096;
/// Magic, number, length and checksum of a slot, as `mirror_core::slots` lays them out, and the two epochs' heads.
const OVERHEAD: usize = 28 + 2 * 9;

#[derive(FromBytes, IntoBytes, Immutable, Clone)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK]);

/// A value that knows what to become where its slot is too small.
pub trait Stored: Slotted {
    /// A smaller value that is just as safe; `None`: there is none, and too large a value is a fault.
    fn shrunk(&self) -> Option<Self>;
}

impl Stored for Durable {
    fn shrunk(&self) -> Option<Self> {
        None
    }
}

impl Stored for Image {
    /// A log that names everything covers what does not fit. The two epochs keep their meaning.
    fn shrunk(&self) -> Option<Self> {
        let all = |epoch: &Epoch| Epoch { full: epoch.full || !epoch.objects.is_empty(), ..Epoch::default() };
        Some(Image { current: all(&self.current), previous: all(&self.previous) })
    }
}

/// One state file. One thread writes it; the core never wants two writes of one file at once.
pub struct Store<T> {
    file: OwnedFd,
    slot: usize,
    number: u64,
    kind: std::marker::PhantomData<T>,
}

impl Store<Durable> {
    /// The file of the durable state, and what it holds; `None`: nothing, or nothing readable.
    ///
    /// # Errors
    /// What making, preallocating and reading the file says.
    pub fn state(path: &Path) -> Result<(Store<Durable>, Option<Durable>), Errno> {
        Store::open(path, BLOCK)
    }
}

impl Store<Image> {
    /// The file of the difference log with room for `objects` in each epoch (`Config::log_objects`), and what it holds;
    /// `None`: nothing readable, so everything may differ.
    ///
    /// # Errors
    /// What making, preallocating and reading the file says.
    pub fn log(path: &Path, objects: usize) -> Result<(Store<Image>, Option<Image>), Errno> {
        // Epochs pile up while the other side confirms none: room for three in all.
        Store::open(path, OVERHEAD + 3 * objects * 16)
    }
}

impl<T: Stored> Store<T> {
    fn open(path: &Path, bytes: usize) -> Result<(Store<T>, Option<T>), Errno> {
        let file = open_past_the_cache(path)?;
        let length = usize::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
        // A file that was made for more stays as it is: its second slot begins in the middle.
        let slot = bytes.next_multiple_of(BLOCK).max(length / 2 / BLOCK * BLOCK);
        if length < 2 * slot {
            let found = read(&file, length, length / 2 / BLOCK * BLOCK)?;
            return Self::grow(file, path, slot, found);
        }
        let found = read(&file, length, slot)?;
        let number = found.as_ref().map_or(0, |(number, _)| *number);
        Ok((Store { file, slot, number, kind: std::marker::PhantomData }, found.map(|(_, value)| value)))
    }

    /// A new file of the right size takes the place of one that is missing or too small, with the same value in it.
    fn grow(old: OwnedFd, path: &Path, slot: usize, found: Option<(u64, T)>) -> Result<(Self, Option<T>), Errno> {
        drop(old);
        let fresh = path.with_extension("new");
        match rustix::fs::unlink(&fresh) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        let file = open_past_the_cache(&fresh)?;
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 2 * slot as u64)?;
        // Written once, so that no later write has to turn an unwritten extent into a written one.
        let zeros = blocks(2 * slot);
        write_all(&file, zeros.as_bytes(), 0)?;
        let mut store = Store { file, slot, number: 0, kind: std::marker::PhantomData };
        let value = match found {
            Some((number, value)) => {
                store.number = number;
                store.write(&value)?;
                Some(value)
            }
            None => None,
        };
        rustix::fs::fsync(&store.file)?;
        rustix::fs::rename(&fresh, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::fsync(rustix::fs::open(folder, flags, Mode::empty())?)?;
        Ok((store, value))
    }

    /// Writes `value`. When this returns, it is on the disk.
    ///
    /// # Errors
    /// What writing says: the disk failed, and the value before may be all there is. `FBIG` where a value that can't be made
    /// smaller does not fit its slot.
    pub fn write(&mut self, value: &T) -> Result<(), Errno> {
        let number = self.number + 1;
        let mut bytes = slots::encode(number, value);
        if bytes.len() > self.slot {
            bytes = slots::encode(number, &value.shrunk().ok_or(Errno::FBIG)?);
        }
        let mut aligned = blocks(bytes.len());
        aligned.as_mut_bytes()[..bytes.len()].copy_from_slice(&bytes);
        let at = if number.is_multiple_of(2) { 0 } else { self.slot };
        write_all(&self.file, aligned.as_bytes(), at as u64)?;
        self.number = number;
        Ok(())
    }
}

fn blocks(bytes: usize) -> Vec<Block> {
    vec![Block::new_zeroed(); bytes.div_ceil(BLOCK)]
}

/// Where a file system knows no `O_DIRECT` (tmpfs before 6.6), `O_DSYNC` alone has to do.
fn open_past_the_cache(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::DSYNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    match rustix::fs::open(path, flags | OFlags::DIRECT, mode) {
        Err(Errno::INVAL) => rustix::fs::open(path, flags, mode),
        other => other,
    }
}

fn read<T: Slotted>(file: &OwnedFd, length: usize, slot: usize) -> Result<Option<(u64, T)>, Errno> {
    let mut all = blocks(length);
    let bytes = all.as_mut_bytes();
    let mut done = 0;
    while done < length {
        match rustix::io::pread(file, &mut bytes[done..], done as u64) {
            Ok(0) => break,
            Ok(got) => done += got,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    let (first, second) = bytes.split_at(slot.min(bytes.len()));
    Ok(slots::newest([first, second]))
}

fn write_all(file: &OwnedFd, bytes: &[u8], at: u64) -> Result<(), Errno> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pwrite(file, &bytes[done..], at + done as u64) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirror_core::ids::{Generation, ObjectId};

    fn state(generation: u64) -> Durable {
        Durable { generation: Generation(generation), ..Durable::default() }
    }

    fn image(objects: std::ops::Range<u128>) -> Image {
        let current = Epoch { objects: objects.map(ObjectId).collect(), full: false };
        Image { current, previous: Epoch::default() }
    }

    #[test]
    fn a_new_file_holds_nothing_and_then_the_last_value_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (mut store, found) = Store::state(&path).unwrap();
        assert_eq!(found, None);
        for generation in 1..6 {
            store.write(&state(generation)).unwrap();
            assert_eq!(Store::state(&path).unwrap().1, Some(state(generation)));
        }
        assert!(!path.with_extension("new").exists());
    }

    /// A crash in the middle of a write leaves any part of the slot new and the rest old: at every byte, and at every
    /// sector in any combination of two.
    #[test]
    fn a_torn_slot_leaves_the_value_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut store, _) = Store::log(&path, 256).unwrap();
        let (before, torn) = (image(0..200), image(7..256));
        store.write(&image(3..99)).unwrap();
        store.write(&before).unwrap();
        let old = std::fs::read(&path).unwrap();
        store.write(&torn).unwrap();
        let new = std::fs::read(&path).unwrap();
        let changed: Vec<usize> = (0..old.len()).filter(|at| old[*at] != new[*at]).collect();
        let (first, last) = (changed[0], changed[changed.len() - 1]);
        let check = |bytes: &[u8], what: &str| {
            let copy = folder.path().join("torn");
            std::fs::write(&copy, bytes).unwrap();
            let found = Store::log(&copy, 256).unwrap().1;
            assert_eq!(found.as_ref(), Some(if bytes == new { &torn } else { &before }), "{what}");
        };
        for cut in first + 1..=last {
            let bytes = [&new[..cut], &old[cut..]].concat();
            // The disk is not asked each time: what is read back is decided by these bytes alone.
            let found = slots::newest::<Image>([&bytes[..store.slot], &bytes[store.slot..]]);
            assert_eq!(found.map(|(_, image)| image), Some(before.clone()), "cut at byte {cut}");
        }
        for sector in (first / 512)..=(last / 512) {
            for other in sector..=(last / 512) {
                let mut bytes = old.clone();
                for landed in [sector, other] {
                    let part = landed * 512..(landed + 1) * 512;
                    bytes[part.clone()].copy_from_slice(&new[part]);
                }
                check(&bytes, &format!("sectors {sector} and {other}"));
            }
        }
    }

    #[test]
    fn a_log_that_does_not_fit_names_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut store, _) = Store::log(&path, 16).unwrap();
        let mut both = image(0..4000);
        both.previous = image(1..2).current;
        store.write(&both).unwrap();
        let found = Store::log(&path, 16).unwrap().1.unwrap();
        assert!(found.current.full && found.previous.full);
        store.write(&image(0..3)).unwrap();
        assert_eq!(Store::log(&path, 16).unwrap().1, Some(image(0..3)));
    }

    #[test]
    fn a_file_made_for_less_grows_and_keeps_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut store, _) = Store::log(&path, 16).unwrap();
        store.write(&image(0..9)).unwrap();
        let (mut store, found) = Store::log(&path, 4096).unwrap();
        assert_eq!(found, Some(image(0..9)));
        store.write(&image(0..4096)).unwrap();
        assert_eq!(Store::log(&path, 4096).unwrap().1, Some(image(0..4096)));
        // And back to a smaller setting: nothing is lost.
        assert_eq!(Store::log(&path, 16).unwrap().1, Some(image(0..4096)));
    }

    #[test]
    fn what_is_no_state_file_is_nothing_readable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        std::fs::write(&path, vec![0xa5; 3 * BLOCK + 17]).unwrap();
        assert_eq!(Store::state(&path).unwrap().1, None);
    }
}
