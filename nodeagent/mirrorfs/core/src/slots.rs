//! Two slots with checksums: how a small state survives a torn or lost write.
//!
//! A value is written to the slot that does not hold the newest one, with a number one higher. Whatever a crash does to
//! that write, the other slot still holds the value before. Only layout and choice are here, no file.

/// A value that can live in a pair of slots.
pub trait Slotted: Sized {
    /// Tells one kind of file from another, and one version from the next.
    const MAGIC: [u8; 4];
    /// Appends the value.
    fn write(&self, to: &mut Writer);
    /// Takes it back; `None` if the bytes are no such value.
    fn read(from: &mut Reader<'_>) -> Option<Self>;
}

/// Little-endian bytes, growing.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Appends eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }
    /// Appends sixteen bytes.
    pub fn u128(&mut self, value: u128) {
        self.0.extend(value.to_le_bytes());
    }
    /// Appends one byte.
    pub fn bool(&mut self, value: bool) {
        self.0.push(value.into());
    }
    /// Appends a flag and, if there is one, the value.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Little-endian bytes, shrinking.
pub struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    /// Takes eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
    /// Takes sixteen bytes.
    pub fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }
    /// Takes one byte that must be 0 or 1.
    pub fn bool(&mut self) -> Option<bool> {
        match self.take::<1>()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
    /// Takes a flag and the value it announces.
    pub fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.bool()? { read(self).map(Some) } else { Some(None) }
    }
}

/// The bytes of one slot: magic, number, length, body, CRC-32C over all of it.
pub fn encode<T: Slotted>(number: u64, value: &T) -> Vec<u8> {
    let mut body = Writer::default();
    value.write(&mut body);
    let mut bytes = Vec::with_capacity(body.0.len() + 28);
    bytes.extend(T::MAGIC);
    bytes.extend(number.to_le_bytes());
    bytes.extend((body.0.len() as u64).to_le_bytes());
    bytes.extend(body.0);
    bytes.extend(crc32c(&bytes).to_le_bytes());
    bytes
}

/// The number and value of one slot, or `None` if it is empty, torn, or of another kind.
pub fn decode<T: Slotted>(slot: &[u8]) -> Option<(u64, T)> {
    let mut head = Reader(slot);
    let magic: [u8; 4] = head.take()?;
    let number = head.u64()?;
    let length = usize::try_from(head.u64()?).ok()?;
    let end = length.checked_add(20)?;
    let sum = Reader(slot.get(end..)?).take::<4>()?;
    if magic != T::MAGIC || crc32c(&slot[..end]).to_le_bytes() != sum {
        return None;
    }
    let mut body = Reader(&slot[20..end]);
    let value = T::read(&mut body)?;
    body.0.is_empty().then_some((number, value))
}

/// The newest value of two slots and its number; the next write goes to slot `(number + 1) % 2`.
pub fn newest<T: Slotted>(slots: [&[u8]; 2]) -> Option<(u64, T)> {
    slots.into_iter().filter_map(decode).max_by_key(|(number, _)| *number)
}

/// CRC-32C (Castagnoli), bit by bit: these values are small and rare.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::Durable;
    use crate::ids::{Generation, Nonce};

    fn state(generation: u64) -> Durable {
        let cas = Some(Nonce { process: 7, count: 3 });
        Durable { generation: Generation(generation), cas, outdated: true, ..Durable::default() }
    }

    #[test]
    fn crc32c_is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_value_comes_back() {
        assert_eq!(decode::<Durable>(&encode(5, &state(9))), Some((5, state(9))));
    }

    #[test]
    fn any_torn_write_leaves_the_value_before() {
        let (old, new) = (encode(4, &state(8)), encode(5, &state(9)));
        for cut in 0..new.len() {
            // What lay in this slot before was the value before the old one.
            let mut torn = encode(3, &state(7));
            torn[..cut].copy_from_slice(&new[..cut]);
            let (number, found) = newest::<Durable>([&old, &torn]).expect("one slot is whole");
            assert_eq!((number, found), (4, state(8)), "cut at {cut}");
        }
    }

    #[test]
    fn any_flipped_bit_is_seen() {
        let whole = encode(5, &state(9));
        for bit in 0..whole.len() * 8 {
            let mut bent = whole.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode::<Durable>(&bent), None, "bit {bit}");
        }
    }

    #[test]
    fn another_kind_a_short_or_an_empty_slot_is_nothing() {
        let whole = encode(5, &crate::difflog::Image::default());
        assert_eq!(decode::<Durable>(&whole), None);
        assert_eq!(decode::<Durable>(&[]), None);
        assert_eq!(decode::<Durable>(&[0; 4096]), None);
    }
}
