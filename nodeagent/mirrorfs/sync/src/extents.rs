//! A file's data in extents of 64 KiB, and in blocks of 4 KiB where few of an extent's differ: digests that tell holes from zeros, reading, and writing with holes kept.
//!
//! A hole is where a file has no blocks. Zeros that were written and blocks that were only preallocated read alike, and which of
//! them the disk holds depends on what has been flushed: they count as equal, and travel without their bytes. What is preallocated
//! behind a file's end counts for nothing.

use std::os::fd::{AsFd, BorrowedFd};

use mirrorfs_fs::sys;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use crate::wire::{self, Digest, Malformed, Reader, Writer};

/// What is compared and sent as a whole.
pub const EXTENT: u64 = 64 << 10;

/// The digest of an extent without data.
const HOLE: Digest = [0; 16];

/// How many extents a file of `size` bytes has.
pub fn count(size: u64) -> u64 {
    size.div_ceil(EXTENT)
}

/// The bits of a part's length that say that it is zeros, without bytes behind it.
const ZEROS: u32 = 1 << 31;
/// What is looked at for zeros, and compared within an extent.
const BLOCK: usize = 4096;
/// How many blocks an extent has: a mask of them has a bit for each, the lowest for the first.
pub const BLOCKS: usize = EXTENT as usize / BLOCK;
/// All of them.
pub const ALL: u16 = u16::MAX;

/// The blocks between two holes, `end` excluded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Segment {
    start: u64,
    end: u64,
}

/// Where the file has blocks between two offsets, in order.
fn segments(fd: BorrowedFd<'_>, start: u64, end: u64) -> Result<Vec<Segment>, Errno> {
    match sys::allocated(fd, start, end) {
        Ok(found) => Ok(found.into_iter().map(|(start, end)| Segment { start, end }).collect()),
        Err(Errno::OPNOTSUPP) => sought(fd, start, end),
        Err(errno) => Err(errno),
    }
}

/// As `segments`, on a file system (tmpfs) that answers nothing but `lseek(2)`.
fn sought(fd: BorrowedFd<'_>, start: u64, end: u64) -> Result<Vec<Segment>, Errno> {
    let (mut at, mut found) = (start, Vec::new());
    while at < end {
        let data = match rustix::fs::seek(fd, SeekFrom::Data(at)) {
            Ok(data) if data < end => data,
            // No data behind `at`, or the file is shorter by now.
            Ok(_) | Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        let hole = match rustix::fs::seek(fd, SeekFrom::Hole(data)) {
            Ok(hole) => hole,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        found.push(Segment { start: data, end: hole.min(end) });
        at = hole;
    }
    Ok(found)
}

fn within(segments: &[Segment], start: u64, end: u64) -> impl Iterator<Item = Segment> {
    let first = segments.partition_point(|segment| segment.end <= start);
    let inside = segments[first..].iter().take_while(move |segment| segment.start < end);
    inside.map(move |segment| Segment { start: segment.start.max(start), end: segment.end.min(end) })
}

/// Fills `buffer` from `offset`; returns how much there was.
fn read_at(fd: BorrowedFd<'_>, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(fd, &mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(got) => done += got,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// The digests of `count` extents from extent `first` on, for a file that has, or is to have, `size` bytes; and how many bytes
/// were read for them.
///
/// # Errors
/// What reading says.
pub fn digests(fd: BorrowedFd<'_>, first: u64, count: u64, size: u64) -> Result<(Vec<Digest>, u64), Errno> {
    digests_of(fd, EXTENT, (first, count), size)
}

/// As `digests`, of one extent's blocks.
///
/// # Errors
/// What reading says.
pub fn block_digests(fd: BorrowedFd<'_>, extent: u64, size: u64) -> Result<(Vec<Digest>, u64), Errno> {
    digests_of(fd, BLOCK as u64, (extent * BLOCKS as u64, BLOCKS as u64), size)
}

fn digests_of(
    fd: BorrowedFd<'_>,
    unit: u64,
    (first, count): (u64, u64),
    size: u64,
) -> Result<(Vec<Digest>, u64), Errno> {
    let end = size.min((first + count) * unit);
    let segments = segments(fd, first * unit, end)?;
    let mut buffer = vec![0; if segments.is_empty() { 0 } else { unit as usize }];
    let (mut digests, mut total) = (Vec::with_capacity(count as usize), 0);
    for number in first..first + count {
        let start = number * unit;
        let mut hasher = None;
        for segment in within(&segments, start, start + unit) {
            let length = (segment.end - segment.start) as usize;
            let got = read_at(fd, segment.start, &mut buffer[..length])?;
            // Blocks behind the file's end read as zeros once it is longer.
            buffer[got..length].fill(0);
            let hasher = hasher.get_or_insert_with(blake3::Hasher::new);
            // Where the segment is, then its bytes: zeros are another thing than a hole.
            hasher.update(&(segment.start - start).to_le_bytes()).update(&(length as u64).to_le_bytes());
            hasher.update(&buffer[..length]);
            total += got as u64;
        }
        digests.push(hasher.map_or(HOLE, |hasher| wire::short(&hasher.finalize())));
    }
    Ok((digests, total))
}

/// The stretches of an extent whose blocks are in the mask, as offsets in it.
fn masked(mask: u16) -> impl Iterator<Item = (u64, u64)> {
    let mut block = 0;
    std::iter::from_fn(move || {
        let rest = |from: u32| u32::from(mask) >> from;
        block += rest(block).trailing_zeros().min(BLOCKS as u32);
        let start = block.min(BLOCKS as u32);
        block = start + rest(start).trailing_ones();
        (start < BLOCKS as u32).then_some((u64::from(start) * BLOCK as u64, u64::from(block) * BLOCK as u64))
    })
}

/// How many bytes the blocks of a mask have.
pub fn masked_bytes(mask: u16) -> u64 {
    u64::from(mask.count_ones()) * BLOCK as u64
}

/// Appends the blocks of one extent that are in `mask`, as they are now: where their data lies, and the data.
///
/// # Errors
/// What reading says.
pub fn write_out(fd: BorrowedFd<'_>, extent: u64, mask: u16, to: &mut Writer) -> Result<(), Errno> {
    let start = extent * EXTENT;
    to.u64(extent).u16(mask);
    let head = to.0.len();
    to.u16(0);
    let mut parts = 0u16;
    let mut buffer = vec![0; EXTENT as usize];
    let all = segments(fd, start, start + EXTENT)?;
    for segment in masked(mask).flat_map(|(from, end)| within(&all, start + from, start + end)) {
        let length = (segment.end - segment.start) as usize;
        let got = read_at(fd, segment.start, &mut buffer[..length])?;
        let mut at = (segment.start - start) as u32;
        for (zeros, run) in runs(&buffer[..got]) {
            to.u32(at);
            if zeros {
                to.u32(run.len() as u32 | ZEROS);
            } else {
                to.long(run);
            }
            at += run.len() as u32;
            parts += 1;
        }
    }
    to.0[head..head + 2].copy_from_slice(&parts.to_le_bytes());
    Ok(())
}

/// Cuts bytes where zeros begin and end, by blocks.
fn runs(bytes: &[u8]) -> Vec<(bool, &[u8])> {
    let is_zero = |block: &[u8]| *block == [0; BLOCK][..block.len()];
    let (mut runs, mut start) = (Vec::new(), 0);
    let kinds: Vec<bool> = bytes.chunks(BLOCK).map(is_zero).collect();
    for run in kinds.chunk_by(|a, b| a == b) {
        let end = (start + run.len() * BLOCK).min(bytes.len());
        runs.push((run[0], &bytes[start..end]));
        start = end;
    }
    runs
}

/// A stretch of an extent.
enum Part<'a> {
    Data(&'a [u8]),
    Zeros(u64),
}

impl Part<'_> {
    fn len(&self) -> u64 {
        match self {
            Part::Data(bytes) => bytes.len() as u64,
            Part::Zeros(length) => *length,
        }
    }
}

/// One extent that was sent, or some blocks of it.
pub struct Sent<'a> {
    extent: u64,
    mask: u16,
    parts: Vec<(u64, Part<'a>)>,
}

impl<'a> Sent<'a> {
    /// # Errors
    /// `Malformed`: nothing of it may be written.
    pub fn read(from: &mut Reader<'a>) -> Result<Sent<'a>, Malformed> {
        let (extent, mask, count) = (from.u64()?, from.u16()?, from.u16()?);
        // The largest file of any file system we know.
        if extent > i64::MAX as u64 / EXTENT - 1 {
            return Err(Malformed("data beyond the end of any file"));
        }
        let (mut parts, mut end) = (Vec::new(), 0);
        for _ in 0..count {
            let (at, length) = (u64::from(from.u32()?), from.u32()?);
            let part = if length & ZEROS == 0 {
                Part::Data(from.take(length as usize)?)
            } else {
                Part::Zeros(u64::from(length & !ZEROS))
            };
            let inside = masked(mask).any(|(start, end)| start <= at && at + part.len() <= end);
            if at < end || part.len() == 0 || !inside {
                return Err(Malformed("data outside its extent"));
            }
            end = at + part.len();
            parts.push((at, part));
        }
        Ok(Sent { extent, mask, parts })
    }

    /// Makes these blocks of the file behind `fd` be this, within the file's size as it comes to be.
    ///
    /// # Errors
    /// What writing says.
    pub fn apply(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        let start = self.extent * EXTENT;
        for (from, end) in masked(self.mask) {
            let mut at = from;
            for (offset, part) in self.parts.iter().filter(|(offset, _)| (from..end).contains(offset)) {
                punch(fd, start + at, start + offset)?;
                match part {
                    Part::Data(bytes) => write_all(fd, bytes, start + offset)?,
                    Part::Zeros(length) => zero(fd, start + offset, *length)?,
                }
                at = offset + part.len();
            }
            punch(fd, start + at, start + end)?;
        }
        Ok(())
    }
}

fn write_all(fd: BorrowedFd<'_>, bytes: &[u8], at: u64) -> Result<(), Errno> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pwrite(fd, &bytes[done..], at + done as u64) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Blocks of zeros, preallocated where the file system can.
fn zero(fd: BorrowedFd<'_>, at: u64, length: u64) -> Result<(), Errno> {
    match rustix::fs::fallocate(fd, FallocateFlags::ZERO_RANGE, at, length) {
        Err(Errno::OPNOTSUPP) => write_all(fd, &vec![0; length as usize], at),
        other => other,
    }
}

/// Takes the data between two offsets away, where there is any.
fn punch(fd: BorrowedFd<'_>, start: u64, end: u64) -> Result<(), Errno> {
    if start >= end || segments(fd.as_fd(), start, end)?.is_empty() {
        return Ok(());
    }
    rustix::fs::fallocate(fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start, end - start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    fn sparse(parts: &[(u64, usize, u8)], size: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        for (offset, length, byte) in parts {
            file.write_all_at(&vec![*byte; *length], *offset).unwrap();
        }
        file.set_len(size).unwrap();
        file
    }

    fn all(file: &File) -> Vec<Digest> {
        {
            let size = file.metadata().unwrap().len();
            digests(file.as_fd(), 0, count(size), size).unwrap().0
        }
    }

    #[test]
    fn zeros_are_no_hole() {
        let (hole, zeros) = (sparse(&[], EXTENT), sparse(&[(0, EXTENT as usize, 0)], EXTENT));
        assert_eq!(all(&hole), [HOLE]);
        assert_ne!(all(&zeros), [HOLE]);
    }

    #[test]
    fn an_extent_comes_back_with_its_holes() {
        let source = sparse(&[(8192, 4096, 7), (32768, 5000, 8), (EXTENT + 3, 10, 9)], 2 * EXTENT + 100);
        source.write_all_at(&[0; 8192], 16384).unwrap();
        let target = sparse(&[(0, 2 * EXTENT as usize + 50, 1)], 2 * EXTENT + 50);
        for extent in 0..3 {
            let mut bytes = Writer::default();
            write_out(source.as_fd(), extent, ALL, &mut bytes).unwrap();
            let mut reader = Reader(&bytes.0);
            Sent::read(&mut reader).unwrap().apply(target.as_fd()).unwrap();
            reader.end().unwrap();
        }
        target.set_len(2 * EXTENT + 100).unwrap();
        assert_eq!(all(&source), all(&target));
    }

    #[test]
    fn the_blocks_of_a_mask_come_back_and_the_others_stay() {
        assert_eq!(masked(0b1000_0000_0110_0001).collect::<Vec<_>>(), [(0, 4096), (20480, 28672), (61440, 65536)]);
        assert_eq!((masked(ALL).collect::<Vec<_>>(), masked(0).count()), (vec![(0, EXTENT)], 0));
        let source = sparse(&[(0, EXTENT as usize, 1)], EXTENT);
        let holed = sparse(&[(0, 4096, 7), (8192, EXTENT as usize - 8192, 1)], EXTENT);
        let digests = |file: &File| block_digests(file.as_fd(), 0, EXTENT).unwrap().0;
        let (own, other) = (digests(&source), digests(&holed));
        let differing: Vec<usize> = (0..BLOCKS).filter(|at| own[*at] != other[*at]).collect();
        assert_eq!(differing, [0, 1]);
        let mut bytes = Writer::default();
        write_out(holed.as_fd(), 0, 0b11, &mut bytes).unwrap();
        assert!(bytes.0.len() < 4096 + 64);
        Sent::read(&mut Reader(&bytes.0)).unwrap().apply(source.as_fd()).unwrap();
        assert_eq!(all(&source), all(&holed));
    }

    #[test]
    fn data_outside_its_extent_is_refused() {
        let mut bytes = Writer::default();
        bytes.u64(0).u16(0b1).u16(1).u32(4096).long(b"in a block that is not in the mask");
        assert!(Sent::read(&mut Reader(&bytes.0)).is_err());
        for (at, length) in [(EXTENT as u32 - 1, 2), (u32::MAX, 1)] {
            let mut bytes = Writer::default();
            bytes.u64(0).u16(ALL).u16(1).u32(at).long(&vec![0; length]);
            assert!(Sent::read(&mut Reader(&bytes.0)).is_err());
        }
        let mut bytes = Writer::default();
        bytes.u64(u64::MAX / EXTENT).u16(ALL).u16(0);
        assert!(Sent::read(&mut Reader(&bytes.0)).is_err());
    }
}
