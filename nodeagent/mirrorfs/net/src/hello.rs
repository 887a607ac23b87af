//! The first frame each way: which mirror, which member, which life of it, and what the connection is for.

use crate::frame::Refused;

/// What a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Operations and their answers, one at a time.
    Data,
    /// Messages of the protocol, one way.
    Control,
    /// Pieces of a resync and their answers.
    Resync,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The mirror's uid.
    pub mirror: [u8; 16],
    /// The member's uid.
    pub node: u128,
    /// The boot of its machine, and the process.
    pub boot: u128,
    pub process: u128,
    pub channel: Channel,
}

/// Bytes of a hello.
pub const LENGTH: usize = 65;

impl Hello {
    pub fn to_bytes(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..16].copy_from_slice(&self.mirror);
        for (at, id) in [self.node, self.boot, self.process].into_iter().enumerate() {
            bytes[16 + at * 16..32 + at * 16].copy_from_slice(&id.to_le_bytes());
        }
        bytes[64] = match self.channel {
            Channel::Data => 1,
            Channel::Control => 2,
            Channel::Resync => 3,
        };
        bytes
    }

    /// # Errors
    /// `Refused::Payload` where the bytes are no hello.
    pub fn parse(bytes: &[u8]) -> Result<Hello, Refused> {
        let bytes: &[u8; LENGTH] = bytes.try_into().map_err(|_| Refused::Payload)?;
        let id = |at: usize| {
            let mut id = [0; 16];
            id.copy_from_slice(&bytes[at * 16..at * 16 + 16]);
            id
        };
        let channel = match bytes[64] {
            1 => Channel::Data,
            2 => Channel::Control,
            3 => Channel::Resync,
            _ => return Err(Refused::Payload),
        };
        let number = |at| u128::from_le_bytes(id(at));
        Ok(Hello { mirror: id(0), node: number(1), boot: number(2), process: number(3), channel })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_reads_back_and_anything_else_is_none() {
        for channel in [Channel::Data, Channel::Control, Channel::Resync] {
            let hello = Hello { mirror: [7; 16], node: 1, boot: 2, process: u128::MAX, channel };
            let bytes = hello.to_bytes();
            assert_eq!(Hello::parse(&bytes), Ok(hello));
            assert_eq!(Hello::parse(&bytes[1..]), Err(Refused::Payload));
        }
        assert_eq!(Hello::parse(&[0; LENGTH]), Err(Refused::Payload));
    }
}
