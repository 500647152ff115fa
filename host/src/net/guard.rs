//! The guard: a container sends under its own addresses, or not at all.
//!
//! The TUN does not tell which container a packet came from, so who passes the
//! host's end of a veth under a neighbour's namespace IP speaks as that neighbour.
//! A filter at that end drops every frame that is no IP packet from the namespace IP,
//! or the namespace IPv6, of the attachment. It sits in front of everything the host
//! does with a frame, and it goes when the interface goes.
//!
//! ARP and neighbour discovery are dropped too: nobody asks, because the neighbour
//! entries of both ends are permanent.
//!
//! The filter is a program for the packet filter that every kernel has (classic BPF,
//! `Documentation/networking/filter.rst`), run by `cls_bpf` at the ingress (`tc-bpf(8)`).

use std::net::{Ipv4Addr, Ipv6Addr};

use futures_util::StreamExt;
use nix::errno::Errno;
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};

use crate::net::netlink::{Existing, Link, Netlink, NetlinkError, because, missing_unless_existing};

/// The filter is the first of the interface, and the only one of its priority.
const PRIORITY: u16 = 1;
const HANDLE: u32 = 1;
/// What `tc filter show` calls it.
const NAME: &str = "acorn-guard";

impl Netlink {
    /// Lets only these sources in from an interface. Returns whether the guard was missing.
    /// One that was there is replaced in one step, without letting anything through.
    pub(super) async fn guard(
        &self,
        interface: &Link,
        source: Ipv4Addr,
        source_v6: Ipv6Addr,
        existing: Existing,
    ) -> Result<bool, NetlinkError> {
        let action = || format!("guard interface {} against foreign sources", interface.name);
        let Ok(index) = i32::try_from(interface.index) else {
            return Err(NetlinkError { action: action(), source: Errno::ENODEV.into() });
        };
        let added = self.handle.qdisc().add(index).ingress().execute().await.map_err(because(action));
        // Whose the place for filters is does not matter.
        missing_unless_existing(added, Existing::Repair)?;

        let filter = filter(index, &program(source, source_v6));
        let added = self.set_filter(filter.clone(), NLM_F_CREATE | NLM_F_EXCL).await.map_err(because(action));
        let missing = missing_unless_existing(added, existing)?;
        if !missing {
            self.set_filter(filter, NLM_F_CREATE | NLM_F_REPLACE).await.map_err(because(action))?;
        }
        Ok(missing)
    }

    /// The requests of the library know no filters with a program.
    async fn set_filter(&self, filter: TcMessage, flags: u16) -> Result<(), rtnetlink::Error> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewTrafficFilter(filter));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut answers = self.handle.clone().request(request)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                return Err(rtnetlink::Error::NetlinkError(error));
            }
        }
        Ok(())
    }
}

fn filter(interface: i32, program: &[Instruction]) -> TcMessage {
    // `linux/pkt_cls.h`; the library has no names for programs in classic BPF.
    const TCA_BPF_OPS_LEN: u16 = 4;
    const TCA_BPF_OPS: u16 = 5;
    const ETH_P_ALL: u16 = 3;

    let code: Vec<u8> = program.iter().flat_map(Instruction::bytes).collect();
    let len = (code.len() / Instruction::LEN) as u16;
    let options = [
        TcFilterBpfOption::Other(DefaultNla::new(TCA_BPF_OPS_LEN, len.to_ne_bytes().to_vec())),
        TcFilterBpfOption::Other(DefaultNla::new(TCA_BPF_OPS, code)),
        TcFilterBpfOption::ProgName(NAME.to_owned()),
        // What the program returns is what happens to the packet.
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    let mut message = TcMessage::with_index(interface);
    message.header.handle = HANDLE.into();
    message.header.parent = TcHandle { major: u16::MAX, minor: TcHandle::MIN_INGRESS };
    message.header.info = TcHandle { major: PRIORITY, minor: ETH_P_ALL.to_be() }.into();
    message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
    message.attributes.push(TcAttribute::Options(options.map(TcOption::Bpf).into()));
    message
}

/// `struct sock_filter` of `linux/filter.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    /// How many instructions to skip when a comparison holds.
    if_equal: u8,
    /// And when it does not.
    if_not: u8,
    operand: u32,
}

/// What the program looks at. Offsets are those in the frame: only those the kernel
/// follows into every part of a packet (the ones relative to the network header stop at
/// the end of the linear part, and a sender chooses where that is). A VLAN tag is not
/// part of the frame any more.
mod offset {
    const ETHERNET: u32 = 14;
    /// `SKF_AD_OFF + SKF_AD_PROTOCOL`: as the host has understood the frame.
    pub const PROTOCOL: u32 = 0xffff_f000;
    /// RFC 791 section 3.1.
    pub const SOURCE: u32 = ETHERNET + 12;
    /// RFC 8200 section 3.
    pub const SOURCE_V6: u32 = ETHERNET + 8;
}

/// Returns "drop", or "go on" to filters of others behind this one. A frame that ends before
/// its source lets the kernel stop the program with "pass", but that is no IP packet then,
/// and the host drops it for that.
fn program(source: Ipv4Addr, source_v6: Ipv6Addr) -> Vec<Instruction> {
    const ETH_P_IP: u32 = 0x0800;
    const ETH_P_IPV6: u32 = 0x86dd;
    const TC_ACT_UNSPEC: u32 = u32::MAX;
    const TC_ACT_SHOT: u32 = 2;

    let mut program = vec![
        Instruction::load_half(offset::PROTOCOL),
        Instruction::skip_unless(ETH_P_IP, 4),
        Instruction::load_word(offset::SOURCE),
        Instruction::skip_unless(source.to_bits(), 1),
        Instruction::answer(TC_ACT_UNSPEC),
        Instruction::answer(TC_ACT_SHOT),
        Instruction::skip_unless(ETH_P_IPV6, 9),
    ];
    for (word, left) in (0..4u32).zip([7, 5, 3, 1]) {
        let part = (source_v6.to_bits() >> (32 * (3 - word))) as u32;
        program.push(Instruction::load_word(offset::SOURCE_V6 + 4 * word));
        program.push(Instruction::skip_unless(part, left));
    }
    program.extend([Instruction::answer(TC_ACT_UNSPEC), Instruction::answer(TC_ACT_SHOT)]);
    program
}

impl Instruction {
    const LEN: usize = 8;

    /// `BPF_LD | BPF_H | BPF_ABS`.
    fn load_half(offset: u32) -> Self {
        Self { code: 0x28, if_equal: 0, if_not: 0, operand: offset }
    }

    /// `BPF_LD | BPF_W | BPF_ABS`.
    fn load_word(offset: u32) -> Self {
        Self { code: 0x20, if_equal: 0, if_not: 0, operand: offset }
    }

    /// `BPF_JMP | BPF_JEQ | BPF_K`: skips so many instructions unless what was loaded is `value`.
    fn skip_unless(value: u32, instructions: u8) -> Self {
        Self { code: 0x15, if_equal: 0, if_not: instructions, operand: value }
    }

    /// `BPF_RET | BPF_K`.
    fn answer(value: u32) -> Self {
        Self { code: 0x06, if_equal: 0, if_not: 0, operand: value }
    }

    fn bytes(&self) -> [u8; Self::LEN] {
        let (code, operand) = (self.code.to_ne_bytes(), self.operand.to_ne_bytes());
        let mut bytes = [0, 0, self.if_equal, self.if_not, 0, 0, 0, 0];
        bytes[..2].copy_from_slice(&code);
        bytes[4..].copy_from_slice(&operand);
        bytes
    }
}
