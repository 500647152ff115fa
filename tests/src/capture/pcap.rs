//! The classic pcap file format (draft-ietf-opsawg-pcap), as tcpdump writes it on this machine's byte order.

use std::io::{self, ErrorKind, Read};

/// Microsecond time stamps, native byte order.
const MAGIC: u32 = 0xa1b2_c3d4;

/// How the packets of a file begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header.
    Ethernet,
    /// A header that tcpdump makes up for packets of the interface `any` (LINKTYPE_LINUX_SLL2).
    Any,
}

impl Link {
    fn from_number(number: u32) -> Option<Link> {
        match number {
            1 => Some(Link::Ethernet),
            276 => Some(Link::Any),
            _ => None,
        }
    }
}

/// No record of tcpdump is larger.
const MAXIMUM: usize = 262_144;

/// Reads packet after packet.
pub(super) struct Reader<R> {
    source: R,
    link: Link,
    packet: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Checks the file's header.
    pub(super) fn new(mut source: R) -> io::Result<Reader<R>> {
        let mut header = [0; 24];
        source.read_exact(&mut header)?;
        match (word(&header, 0), Link::from_number(word(&header, 20))) {
            (MAGIC, Some(link)) => Ok(Reader { source, link, packet: Vec::new() }),
            _ => Err(io::Error::new(ErrorKind::InvalidData, "not a pcap file of a known link type")),
        }
    }

    /// How every packet of the file begins.
    pub(super) fn link(&self) -> Link {
        self.link
    }

    /// The next packet, or `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let mut header = [0; 16];
        match self.source.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let length = word(&header, 8) as usize;
        if length > MAXIMUM {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("a record of {length} bytes")));
        }
        self.packet.resize(length, 0);
        self.source.read_exact(&mut self.packet)?;
        Ok(Some(&self.packet))
    }
}

fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(word)
}

/// How a file of Ethernet frames begins.
pub(crate) fn header() -> Vec<u8> {
    // Version 2.4, no time zone, no accuracy, the largest packet, Ethernet.
    let version = if cfg!(target_endian = "little") { 0x0004_0002 } else { 0x0002_0004 };
    let words = [MAGIC, version, 0, 0, MAXIMUM as u32, 1];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Appends one packet, without a time stamp. What is longer than any record may be is cut.
pub(crate) fn append(file: &mut Vec<u8>, packet: &[u8]) {
    let packet = &packet[..packet.len().min(MAXIMUM)];
    let length = packet.len() as u32;
    file.extend([0, 0, length, length].iter().flat_map(|word| word.to_ne_bytes()));
    file.extend(packet);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(packets: &[&[u8]]) -> Vec<u8> {
        let mut file = header();
        packets.iter().for_each(|packet| append(&mut file, packet));
        file
    }

    #[test]
    fn every_packet_comes_out_whole() {
        let file = file(&[b"first", b"", b"the third"]);
        let mut reader = Reader::new(file.as_slice()).unwrap();
        assert_eq!(reader.next().unwrap(), Some(&b"first"[..]));
        assert_eq!(reader.next().unwrap(), Some(&b""[..]));
        assert_eq!(reader.next().unwrap(), Some(&b"the third"[..]));
        assert_eq!(reader.next().unwrap(), None);
        assert_eq!(reader.link(), Link::Ethernet);
    }

    #[test]
    fn a_truncated_packet_and_a_foreign_file_are_errors() {
        let mut cut = file(&[b"first"]);
        cut.pop();
        assert!(Reader::new(cut.as_slice()).unwrap().next().is_err());
        assert!(Reader::new(&[0; 24][..]).is_err());
    }
}
