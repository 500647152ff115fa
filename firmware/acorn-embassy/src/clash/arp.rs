//! ARP over Ethernet (RFC 826): what a received frame says about who uses which address, and the three messages of RFC 5227.

use core::net::Ipv4Addr;

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr};

/// Octets of an ARP packet for IPv4 over Ethernet.
const PACKET_LEN: usize = 28;
/// Octets of such a packet with its Ethernet header; the hardware pads it to the least length of a frame.
pub(super) const FRAME_LEN: usize = EthernetFrame::<&[u8]>::header_len() + PACKET_LEN;

/// What an ARP request or reply says.
#[derive(Clone, Copy)]
pub(super) struct Heard {
    pub(super) sender: [u8; 6],
    /// Unspecified when the sender asks whether it may use [`Heard::target_ip`].
    pub(super) sender_ip: Ipv4Addr,
    pub(super) target_ip: Ipv4Addr,
}

impl Heard {
    /// Reads a received frame. `None` if it is not a whole ARP request or reply for IPv4 over Ethernet.
    pub(super) fn in_frame(frame: &[u8]) -> Option<Self> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        if frame.ethertype() != EthernetProtocol::Arp {
            return None;
        }
        // A copy of known length: the bounds that the parser checks, and the panics behind them, are compiled out.
        let packet: [u8; PACKET_LEN] = *frame.payload().first_chunk()?;
        let ArpRepr::EthernetIpv4 {
            operation, source_hardware_addr, source_protocol_addr, target_protocol_addr, ..
        } = ArpRepr::parse(&ArpPacket::new_unchecked(packet)).ok()?
        else {
            return None;
        };
        matches!(operation, ArpOperation::Request | ArpOperation::Reply).then_some(Self {
            sender: source_hardware_addr.0,
            sender_ip: source_protocol_addr,
            target_ip: target_protocol_addr,
        })
    }

    /// Whether the sender asks if it may use the target address (RFC 5227 section 1.1, "ARP Probe").
    pub(super) fn is_probe(&self) -> bool {
        self.sender_ip.is_unspecified()
    }
}

/// What this node says about its own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// "Does anybody use this address?" The sender's address is left out, so that nobody learns it from the question.
    Probe,
    /// "This address is mine": it puts right what neighbours have cached.
    Announcement,
    /// To a node that has asked by a probe: "I use it".
    Answer {
        /// The hardware address that asked.
        to: [u8; 6],
    },
}

impl Message {
    /// The whole Ethernet frame, from the node with hardware address `own` about the IPv4 address `address`.
    pub(super) fn frame(self, own: [u8; 6], address: Ipv4Addr) -> [u8; FRAME_LEN] {
        let own = EthernetAddress(own);
        let nobody = EthernetAddress([0; 6]);
        let (operation, sender_ip, target, target_ip, dst_addr) = match self {
            Self::Probe => (ArpOperation::Request, Ipv4Addr::UNSPECIFIED, nobody, address, EthernetAddress::BROADCAST),
            Self::Announcement => (ArpOperation::Request, address, nobody, address, EthernetAddress::BROADCAST),
            Self::Answer { to } => {
                let to = EthernetAddress(to);
                (ArpOperation::Reply, address, to, Ipv4Addr::UNSPECIFIED, to)
            }
        };
        let arp = ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: own,
            source_protocol_addr: sender_ip,
            target_hardware_addr: target,
            target_protocol_addr: target_ip,
        };
        let mut octets = [0; FRAME_LEN];
        let mut frame = EthernetFrame::new_unchecked(&mut octets[..]);
        EthernetRepr { src_addr: own, dst_addr, ethertype: EthernetProtocol::Arp }.emit(&mut frame);
        arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        octets
    }
}
