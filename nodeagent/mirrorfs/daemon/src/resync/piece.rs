//! Pieces of a resync on the wire: little-endian fields, lengths before bytes, nothing left over.

use mirrorfs_fs::id::FileId;
use mirrorfs_fs::op::{DATA_MAX, NAME_MAX, TARGET_MAX, Time, XATTR_MAX};

/// Names and values of extended attributes.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What an inode is, apart from its data or entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inode {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub size: u64,
    pub atime: Time,
    pub mtime: Time,
    /// A symbolic link's.
    pub target: Vec<u8>,
    pub xattrs: Xattrs,
}

/// One piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece<'p> {
    /// A resync begins: what an earlier one left unfinished is of no use.
    Begin,
    /// Makes the inode if there is none, and sets all of it but data and entries.
    Inode { tree: u16, id: FileId, inode: Inode },
    /// Bytes of a file.
    Data { tree: u16, id: FileId, offset: u64, data: &'p [u8] },
    /// A range of a file that holds nothing.
    Hole { tree: u16, id: FileId, offset: u64, length: u64 },
    /// The inode is complete: it gets its id.
    Complete { tree: u16, id: FileId },
    /// Some of a directory's entries; with the last of them it gets exactly these. Answered with the ids that are not here.
    Entries { tree: u16, id: FileId, last: bool, entries: Vec<(Vec<u8>, FileId)> },
    /// Everything is equal: what was set aside goes.
    Purge,
}

/// The bytes of a piece, and the bulk data that belongs behind them.
pub fn encode<'p>(piece: &Piece<'p>, out: &mut Vec<u8>) -> &'p [u8] {
    let head = |out: &mut Vec<u8>, kind: u8, tree: u16, id: FileId| {
        out.push(kind);
        out.extend(tree.to_le_bytes());
        out.extend(id.to_bytes());
    };
    match piece {
        Piece::Begin => out.push(1),
        Piece::Inode { tree, id, inode } => {
            head(out, 2, *tree, *id);
            for word in [inode.mode, inode.uid, inode.gid, inode.rdev] {
                out.extend(word.to_le_bytes());
            }
            out.extend(inode.size.to_le_bytes());
            for time in [inode.atime, inode.mtime] {
                out.extend(time.sec.to_le_bytes());
                out.extend(time.nsec.to_le_bytes());
            }
            put(out, &inode.target);
            out.extend((inode.xattrs.len() as u32).to_le_bytes());
            for (name, value) in &inode.xattrs {
                put(out, name);
                put(out, value);
            }
        }
        Piece::Data { tree, id, offset, data } => {
            head(out, 3, *tree, *id);
            out.extend(offset.to_le_bytes());
            return data;
        }
        Piece::Hole { tree, id, offset, length } => {
            head(out, 4, *tree, *id);
            out.extend(offset.to_le_bytes());
            out.extend(length.to_le_bytes());
        }
        Piece::Complete { tree, id } => head(out, 5, *tree, *id),
        Piece::Entries { tree, id, last, entries } => {
            head(out, 6, *tree, *id);
            out.push((*last).into());
            for (name, id) in entries {
                put(out, name);
                out.extend(id.to_bytes());
            }
        }
        Piece::Purge => out.push(7),
    }
    &[]
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The piece that fills `bytes` exactly.
pub fn decode(bytes: &[u8]) -> Option<Piece<'_>> {
    let (kind, rest) = bytes.split_first()?;
    let mut r = Reader(rest);
    let piece = match kind {
        1 => Piece::Begin,
        2 => {
            let (tree, id) = (r.tree()?, r.id()?);
            let (mode, uid, gid, rdev, size) = (r.word()?, r.word()?, r.word()?, r.word()?, r.long()?);
            let (atime, mtime, target) = (r.time()?, r.time()?, r.bytes(TARGET_MAX)?.to_vec());
            let mut xattrs = Vec::new();
            for _ in 0..r.word()? {
                xattrs.push((r.bytes(NAME_MAX)?.to_vec(), r.bytes(XATTR_MAX)?.to_vec()));
            }
            Piece::Inode { tree, id, inode: Inode { mode, uid, gid, rdev, size, atime, mtime, target, xattrs } }
        }
        3 => {
            let (tree, id, offset) = (r.tree()?, r.id()?, r.long()?);
            let data = std::mem::take(&mut r.0);
            (data.len() <= DATA_MAX).then_some(Piece::Data { tree, id, offset, data })?
        }
        4 => Piece::Hole { tree: r.tree()?, id: r.id()?, offset: r.long()?, length: r.long()? },
        5 => Piece::Complete { tree: r.tree()?, id: r.id()? },
        6 => {
            let (tree, id, [last]) = (r.tree()?, r.id()?, r.take()?);
            let mut entries = Vec::new();
            while !r.0.is_empty() {
                let name = r.bytes(NAME_MAX)?;
                if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
                    return None;
                }
                entries.push((name.to_vec(), r.id()?));
            }
            Piece::Entries { tree, id, last: last == 1, entries }
        }
        7 => Piece::Purge,
        _ => return None,
    };
    r.0.is_empty().then_some(piece)
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    fn tree(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }
    fn word(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
    fn long(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
    fn id(&mut self) -> Option<FileId> {
        FileId::from_bytes(&self.take::<16>()?)
    }
    fn time(&mut self) -> Option<Time> {
        Some(Time { sec: self.take().map(i64::from_le_bytes)?, nsec: self.word()? })
    }
    fn bytes(&mut self, bound: usize) -> Option<&'b [u8]> {
        let length = usize::try_from(self.word()?).ok().filter(|length| *length <= bound)?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_reads_back_and_a_cut_one_is_none() {
        let (tree, id) = (3, FileId(0x1234_5678));
        let time = Time { sec: -5, nsec: 999 };
        let inode = Inode {
            mode: 0o100_644,
            uid: 1,
            gid: 2,
            rdev: 3,
            size: 1 << 40,
            atime: time,
            mtime: time,
            target: b"to".to_vec(),
            xattrs: vec![(b"user.a".to_vec(), vec![0, 1])],
        };
        for piece in [
            Piece::Begin,
            Piece::Inode { tree, id, inode },
            Piece::Data { tree, id, offset: 9, data: b"data" },
            Piece::Hole { tree, id, offset: 9, length: 10 },
            Piece::Complete { tree, id },
            Piece::Entries { tree, id, last: true, entries: vec![(b"name".to_vec(), FileId(9))] },
            Piece::Purge,
        ] {
            let mut bytes = Vec::new();
            let data = encode(&piece, &mut bytes);
            let whole = bytes.len();
            bytes.extend_from_slice(data);
            assert_eq!(decode(&bytes), Some(piece.clone()));
            // Data and lists of entries end where the frame does.
            for cut in 0..whole {
                assert_ne!(decode(&bytes[..cut]), Some(piece.clone()));
            }
        }
        let mut evil = Vec::new();
        encode(&Piece::Entries { tree, id, last: true, entries: vec![(b"../x".to_vec(), id)] }, &mut evil);
        assert_eq!(decode(&evil), None);
    }
}
