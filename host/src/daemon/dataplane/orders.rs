//! What others ask of the data plane, and what it tells them: the control side, and the manager in this process.

use std::sync::mpsc::TryRecvError;
use std::time::Instant;

use acorn_core::NodeKey;
use acorn_core::sync::client::Outcome;
use acorn_core::sync::message::Refusal;
use tracing::warn;

use super::{Command, Dataplane, Event, Source};
use crate::daemon::manager::{FromManager, ManagerLink};
use crate::root::KeyEvent;
use crate::tunnel::Local;

impl Dataplane {
    /// Runs what the control side asks for. False when it asks for the end.
    pub(super) fn run_commands(&mut self, now: Instant) -> bool {
        let at = self.engine_time(now);
        loop {
            let command = match self.commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            };
            match (command, &mut self.node) {
                (Command::Stop, _) => return false,
                (Command::Status(reply), _) => {
                    let _ = reply.send(Box::new(self.status(now)));
                }
                (Command::Attach { kind, namespace_ip, settings, reply }, Some(node)) => {
                    if let Some(request) = node.engine.attach_as(at, kind, namespace_ip, settings) {
                        self.requests.push((request, reply));
                    } else {
                        let _ = reply.send(Outcome::Refused(Refusal::Full));
                    }
                }
                (Command::Detach { instance, reply }, Some(node)) => {
                    if let Some(request) = node.engine.detach(at, instance) {
                        self.requests.push((request, reply));
                    } else {
                        let _ = reply.send(Outcome::Refused(Refusal::Full));
                    }
                }
                (Command::Adjust { instance, change, reply }, Some(node)) => {
                    if let Some(request) = node.engine.adjust(at, instance, change) {
                        self.requests.push((request, reply));
                    } else {
                        let _ = reply.send(Outcome::Refused(Refusal::Full));
                    }
                }
                (Command::Resume(attachment), Some(node)) => {
                    if node.engine.resume(at, attachment).is_err() {
                        let _ = node.events.send(Event::Lost(attachment.id, Refusal::Full));
                    }
                }
                (Command::SetSubnet(subnet), Some(node)) => node.engine.set_subnet(subnet),
                (Command::Table(reply), Some(_)) => {
                    let _ = reply.send(self.table());
                }
                (Command::Drops(reply), Some(_)) => {
                    let _ = reply.send(self.drops());
                }
                // Dropping the reply tells whoever asked that there is no node here.
                (_, None) => {}
            }
        }
    }

    /// Sends what the manager in this process wants to send, and keeps its clients among the tunnels' peers.
    pub(super) fn run_manager_outputs(&mut self, now: Instant) {
        while let Some(output) = self.manager.as_ref().and_then(ManagerLink::poll) {
            match output {
                FromManager::Send { to, payload } if to == self.own => {
                    let at = self.engine_time(now);
                    self.buffers.packet[..payload.len()].copy_from_slice(&payload);
                    if let Some(node) = &mut self.node
                        && let Some(row) = node.engine.find_peer(&to)
                    {
                        node.engine.handle_payload(at, row, &mut self.buffers.packet[..payload.len()]);
                    }
                    self.settle(now);
                }
                FromManager::Send { to, payload } => self.send_control(now, &to, Local::Own, &payload),
                FromManager::Key(event) => self.follow_key(now, event),
            }
        }
    }

    /// Sends a manager's payload, if there is such a peer.
    pub(super) fn send_control(&mut self, now: Instant, to: &NodeKey, via: Local, payload: &[u8]) {
        if let Some(peer) = self.tunnels.peer(to, via) {
            self.buffers.reply[..payload.len()].copy_from_slice(payload);
            self.seal_and_send(now, peer, payload.len(), Source::Reply);
        }
    }

    /// The manager does not want a tunnel any more.
    pub(super) fn let_go(&mut self, key: &NodeKey) {
        if let Some(handle) = self.tunnels.peer(key, Local::Own)
            && self.peers.release(handle)
        {
            self.tunnels.remove_peer(handle);
        }
    }

    /// Keeps a client of the manager in this process among the tunnels' peers, or not any more.
    pub(super) fn follow_key(&mut self, now: Instant, event: KeyEvent) {
        match event {
            KeyEvent::Add { key, .. } if key == self.own => {}
            KeyEvent::Add { key, endpoint, .. } => match self.tunnels.add_peer(key, endpoint.get(), Local::Own, now) {
                Ok(handle) => self.peers.hold(handle),
                Err(error) => warn!(%key, %error, "a node cannot be let in"),
            },
            KeyEvent::Remove { key } => self.let_go(&key),
        }
    }

    /// Tells who asked what became of their requests, and the control side what was lost.
    pub(super) fn tell_outcomes(&mut self) {
        let Some(node) = &mut self.node else { return };
        while let Some((request, outcome)) = node.engine.poll_event() {
            let asked = request.and_then(|id| self.requests.iter().position(|(asked, _)| *asked == id));
            match (asked, outcome) {
                (Some(place), outcome) => {
                    // Whoever asked may have given up meanwhile.
                    let _ = self.requests.swap_remove(place).1.send(outcome);
                }
                (None, Outcome::Lost(instance, refusal)) => {
                    let _ = node.events.send(Event::Lost(instance, refusal));
                }
                (None, _) => {}
            }
        }
        self.requests.retain(|(request, reply)| {
            let wanted = !reply.is_closed();
            if !wanted {
                node.engine.cancel(*request);
            }
            wanted
        });
    }

    pub(super) fn tell_membership(&mut self) {
        let Some(node) = &self.node else { return };
        let client = node.engine.client();
        let membership = client.membership().copied();
        if membership != self.membership {
            self.membership = membership;
            if let Some(membership) = membership {
                let managers = client.managers().iter().map(|m| (m.key, m.endpoint.get())).collect();
                let _ = node.events.send(Event::Member(membership, managers));
            }
        }
        let refusal = client.refusal();
        if refusal != self.refusal {
            self.refusal = refusal;
            if let Some(refusal) = refusal {
                let _ = node.events.send(Event::Refused(refusal));
            }
        }
    }
}
