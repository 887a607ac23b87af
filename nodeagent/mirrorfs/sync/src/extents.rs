//! A file's data in extents of 64 KiB: digests that tell holes from zeros, reading, and writing with holes kept.

use std::os::fd::{AsFd, BorrowedFd};

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

/// The data between two holes, `end` excluded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Segment {
    start: u64,
    end: u64,
}

/// Where the data is between two offsets, in order.
fn segments(fd: BorrowedFd<'_>, start: u64, end: u64) -> Result<Vec<Segment>, Errno> {
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

/// The digests of `count` extents from extent `first` on, and how many bytes were read for them.
///
/// # Errors
/// What reading says.
pub fn digests(fd: BorrowedFd<'_>, first: u64, count: u64) -> Result<(Vec<Digest>, u64), Errno> {
    let segments = segments(fd, first * EXTENT, (first + count) * EXTENT)?;
    let mut buffer = vec![0; if segments.is_empty() { 0 } else { EXTENT as usize }];
    let (mut digests, mut total) = (Vec::with_capacity(count as usize), 0);
    for extent in first..first + count {
        let start = extent * EXTENT;
        let mut hasher = None;
        for segment in within(&segments, start, start + EXTENT) {
            let hasher = hasher.get_or_insert_with(blake3::Hasher::new);
            let length = (segment.end - segment.start) as usize;
            let got = read_at(fd, segment.start, &mut buffer[..length])?;
            // What the segment is, then its bytes: data of zeros is another thing than a hole.
            hasher.update(&(segment.start - start).to_le_bytes()).update(&(got as u64).to_le_bytes());
            hasher.update(&buffer[..got]);
            total += got as u64;
        }
        digests.push(hasher.map_or(HOLE, |hasher| wire::short(&hasher.finalize())));
    }
    Ok((digests, total))
}

/// Which of `count` extents from extent `first` on hold data.
///
/// # Errors
/// What asking for holes says.
pub fn with_data(fd: BorrowedFd<'_>, first: u64, count: u64) -> Result<Vec<u64>, Errno> {
    let mut found: Vec<u64> = Vec::new();
    for segment in segments(fd, first * EXTENT, (first + count) * EXTENT)? {
        let from = found.last().map_or(0, |last| last + 1).max(segment.start / EXTENT);
        found.extend(from..segment.end.div_ceil(EXTENT));
    }
    Ok(found)
}

/// Appends one extent as it is now: where its data lies, and the data. Returns whether there is any.
///
/// # Errors
/// What reading says.
pub fn write_out(fd: BorrowedFd<'_>, extent: u64, to: &mut Writer) -> Result<bool, Errno> {
    let start = extent * EXTENT;
    let found = segments(fd, start, start + EXTENT)?;
    to.u64(extent).u16(found.len() as u16);
    for segment in &found {
        let length = (segment.end - segment.start) as usize;
        to.u32((segment.start - start) as u32);
        let head = to.0.len();
        to.u32(0);
        let body = to.0.len();
        to.0.resize(body + length, 0);
        let got = read_at(fd, segment.start, &mut to.0[body..])?;
        to.0.truncate(body + got);
        to.0[head..body].copy_from_slice(&(got as u32).to_le_bytes());
    }
    Ok(!found.is_empty())
}

/// One extent that was sent.
pub struct Sent<'a> {
    extent: u64,
    parts: Vec<(u64, &'a [u8])>,
}

impl<'a> Sent<'a> {
    /// # Errors
    /// `Malformed`: nothing of it may be written.
    pub fn read(from: &mut Reader<'a>) -> Result<Sent<'a>, Malformed> {
        let (extent, count) = (from.u64()?, from.u16()?);
        // The largest file of any file system we know.
        if extent > i64::MAX as u64 / EXTENT - 1 {
            return Err(Malformed("data beyond the end of any file"));
        }
        let (mut parts, mut end) = (Vec::new(), 0);
        for _ in 0..count {
            let (at, bytes) = (u64::from(from.u32()?), from.long()?);
            if at < end || at + bytes.len() as u64 > EXTENT {
                return Err(Malformed("data outside its extent"));
            }
            end = at + bytes.len() as u64;
            parts.push((at, bytes));
        }
        Ok(Sent { extent, parts })
    }

    /// Makes the extent of the file behind `fd` be this, within the file's size as it comes to be.
    ///
    /// # Errors
    /// What writing says.
    pub fn apply(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        let start = self.extent * EXTENT;
        let mut at = 0;
        for (offset, bytes) in &self.parts {
            punch(fd, start + at, start + offset)?;
            let mut done = 0;
            while done < bytes.len() {
                match rustix::io::pwrite(fd, &bytes[done..], start + offset + done as u64) {
                    Ok(0) => return Err(Errno::IO),
                    Ok(written) => done += written,
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
            at = offset + bytes.len() as u64;
        }
        punch(fd, start + at, start + EXTENT)
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
        digests(file.as_fd(), 0, count(file.metadata().unwrap().len())).unwrap().0
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
        let target = sparse(&[(0, 2 * EXTENT as usize + 50, 1)], 2 * EXTENT + 50);
        for extent in 0..3 {
            let mut bytes = Writer::default();
            write_out(source.as_fd(), extent, &mut bytes).unwrap();
            let mut reader = Reader(&bytes.0);
            Sent::read(&mut reader).unwrap().apply(target.as_fd()).unwrap();
            reader.end().unwrap();
        }
        target.set_len(2 * EXTENT + 100).unwrap();
        assert_eq!(all(&source), all(&target));
    }

    #[test]
    fn data_outside_its_extent_is_refused() {
        for (at, length) in [(EXTENT as u32 - 1, 2), (u32::MAX, 1)] {
            let mut bytes = Writer::default();
            bytes.u64(0).u16(1).u32(at).long(&vec![0; length]);
            assert!(Sent::read(&mut Reader(&bytes.0)).is_err());
        }
        let mut bytes = Writer::default();
        bytes.u64(u64::MAX / EXTENT).u16(0);
        assert!(Sent::read(&mut Reader(&bytes.0)).is_err());
    }
}
