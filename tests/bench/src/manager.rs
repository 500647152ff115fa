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

/// One of the answers to a message, counted from 0; none when there are no more.
pub fn answer(message: &Message, number: u32) -> Option<Message> {
    if let Message::Resolve(resolve) = message {
        return page_of(resolve, number).map(Message::Table);
    }
    match message {
        _ if number > 0 => None,
        Message::Hello(hello) => Some(welcome(hello.request)),
        Message::Attach(attach) => match attach.kind {
            AttachKind::Resume(instance) => Some(attached(attach.request, instance)),
            _ => panic!("the node attaches what it was not told to"),
        },
        Message::Detach(detach) => Some(Message::Detached { request: detach.request }),
        Message::Forget { subject, stream } => Some(Message::Forgotten { subject: *subject, stream: *stream }),
        _ => None,
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

/// One of the pages of the table that answers a question.
fn page_of(resolve: &Resolve, number: u32) -> Option<TablePage> {
    match resolve.key {
        ResolveKey::Address(address) => {
            let dialled = Dialled::all().find(|dialled| dialled.service_ip().contains(address));
            page_of_all(dialled.unwrap_or_else(|| panic!("{address} is no service's")), resolve.stream, number)
        }
        ResolveKey::Subject(subject @ Subject { service: ServiceId(CLIENTS), instance: Some(client) }) => {
            let kind = PageKind::Replace { from: client, to: Some(client + 1) };
            let page = page(subject, resolve.stream, kind, network::clients_header(), HERE);
            let records = [network::client_record(client)].into_iter().collect();
            (number == 0).then_some(TablePage { records, ..page })
        }
        _ => panic!("the node asks for what it should not need: {:?}", resolve.key),
    }
}

/// One of the pages with all instances of a service.
fn page_of_all(dialled: Dialled, stream: u32, number: u32) -> Option<TablePage> {
    const RECORDS: u32 = PAGE_RECORDS as u32;
    let from = number * RECORDS;
    let end = dialled.instances.min(from + RECORDS);
    if from >= end {
        return None;
    }
    let more = end < dialled.instances;
    let kind = PageKind::Replace { from, to: more.then_some(end) };
    let page = page(Subject::whole(ServiceId(dialled.service)), stream, kind, dialled.header(), THERE);
    Some(TablePage {
        sequence: number + 1,
        more,
        header: page.header.filter(|_| number == 0),
        records: (from..end).map(|number| dialled.record(number)).collect(),
        ..page
    })
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
