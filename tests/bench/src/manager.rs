//! A manager that says yes to everything: it gives the node every table and attachment that it asks for.

use crate::network::{self, CLIENTS, Dialled, HERE, MANAGER, THERE};
use acorn_core::sync::message::{
    AttachKind, Attached, ManagerRecord, Message, PAGE_RECORDS, PageKind, Resolve, ResolveKey, ServiceHeader, Subject,
    TablePage, Welcome,
};
use acorn_core::{InstanceId, NodeId, ServiceId};

/// The manager, as the node is told of it.
pub fn record() -> ManagerRecord {
    ManagerRecord { key: network::key(MANAGER), endpoint: network::endpoint(MANAGER) }
}

/// The answers to one message.
pub fn answer(message: &Message) -> Vec<Message> {
    match message {
        Message::Hello(hello) => vec![welcome(hello.request)],
        Message::Attach(attach) => match attach.kind {
            AttachKind::Resume(instance) => vec![attached(attach.request, instance)],
            _ => panic!("the node attaches what it was not told to"),
        },
        Message::Detach(detach) => vec![Message::Detached { request: detach.request }],
        Message::Forget { subject, stream } => vec![Message::Forgotten { subject: *subject, stream: *stream }],
        Message::Resolve(resolve) => tables(resolve).into_iter().map(Message::Table).collect(),
        _ => Vec::new(),
    }
}

fn welcome(request: u32) -> Message {
    Message::Welcome(Welcome {
        request,
        epoch: 1,
        node: NodeId(HERE),
        subnet: network::subnet(),
        lease_ms: 10_000,
        observed: network::endpoint(HERE),
        reopen: false,
        reattach: false,
        managers: [record()].into_iter().collect(),
    })
}

fn attached(request: u32, instance: InstanceId) -> Message {
    let instance_ip = network::client(instance.number).instance_ip;
    Message::Attached(Attached { request, instance, instance_ip })
}

/// The pages of the table that answers a question.
fn tables(resolve: &Resolve) -> Vec<TablePage> {
    match resolve.key {
        ResolveKey::Address(address) => {
            let mut services = Dialled::all().into_iter();
            let dialled = services.find(|dialled| dialled.service_ip().contains(address));
            whole(dialled.unwrap_or_else(|| panic!("{address} is no service's")), resolve.stream)
        }
        ResolveKey::Subject(subject @ Subject { service: ServiceId(CLIENTS), instance: Some(number) }) => {
            let kind = PageKind::Replace { from: number, to: Some(number + 1) };
            let page = page(subject, resolve.stream, kind, network::clients_header(), HERE);
            vec![TablePage { records: [network::client_record(number)].into_iter().collect(), ..page }]
        }
        _ => panic!("the node asks for what it should not need: {:?}", resolve.key),
    }
}

/// All instances of a service.
fn whole(dialled: Dialled, stream: u32) -> Vec<TablePage> {
    let subject = Subject::whole(ServiceId(dialled.service));
    let numbers: Vec<u32> = (0..dialled.instances).collect();
    let parts: Vec<&[u32]> = numbers.chunks(PAGE_RECORDS).collect();
    let last = parts.len();
    let pages = parts.into_iter().zip(1..).map(|(part, sequence)| {
        let more = sequence < last;
        let to = if more { part.last().map(|number| number + 1) } else { None };
        let kind = PageKind::Replace { from: part[0], to };
        let page = page(subject, stream, kind, dialled.header(), THERE);
        TablePage {
            sequence: sequence as u32,
            more,
            header: page.header.filter(|_| sequence == 1),
            records: part.iter().map(|number| dialled.record(*number)).collect(),
            ..page
        }
    });
    pages.collect()
}

fn page(subject: Subject, stream: u32, kind: PageKind, header: ServiceHeader, node: u32) -> TablePage {
    TablePage {
        subject,
        stream,
        sequence: 1,
        more: false,
        kind,
        header: Some(header),
        nodes: [network::node_record(node)].into_iter().collect(),
        records: [].into_iter().collect(),
        removed: [].into_iter().collect(),
    }
}
