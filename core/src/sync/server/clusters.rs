//! Clients that are clusters: what they pass on of their nodes, and what they say of them.

use super::counters::bump;
use super::streams::Walk;
use super::{Answer, Server, ServerError, denied_with};
use crate::ids::{NodeId, NodeKey};
use crate::sync::cluster::{ClusterMessage, Passed};
use crate::sync::directory::{Directory, Sender};
use crate::sync::message::{Hello, Message};
use crate::time::Instant;

impl<const C: usize, const S: usize> Server<C, S> {
    /// Handles what only clusters say. From anybody else it has no effect.
    pub(super) fn handle_cluster(
        &mut self,
        now: Instant,
        from: Sender,
        payload: &[u8],
        directory: &mut impl Directory,
        out: &mut [u8],
    ) -> Result<Option<usize>, ServerError> {
        let message = ClusterMessage::decode(payload).map_err(|error| self.malformed(error))?;
        let Some(row) = self.session_of(&from.key, directory)? else {
            return self.written(Some(Message::Restarted { epoch: self.epoch }.encode(out)));
        };
        let Some(cluster) = self.sessions.get(row).filter(|session| session.cluster).map(|session| session.node) else {
            bump(&mut self.counters.not_a_cluster);
            return Err(ServerError::NotACluster);
        };
        self.heard(now, row, directory);
        let answer = self.cluster_request(now, row, cluster, message, directory, out)?;
        self.take_changes(now, directory);
        self.written(answer.map(|answer| answer.encode(out)))
    }

    fn cluster_request(
        &mut self,
        now: Instant,
        row: usize,
        cluster: NodeId,
        message: ClusterMessage,
        directory: &mut impl Directory,
        out: &mut [u8],
    ) -> Result<Option<ClusterMessage>, ServerError> {
        Ok(match message {
            ClusterMessage::Pass { of, observed, payload } => {
                let sender = Sender { key: of, observed };
                let Some(answer) = self.passed_on(now, cluster, sender, &payload, directory)? else {
                    return Ok(None);
                };
                let length = self.written(Some(answer.encode(out)))?.unwrap_or(0);
                let payload = Passed::from_slice(out.get(..length).unwrap_or_default());
                Some(ClusterMessage::Answer { of, payload: payload.map_err(|_| ServerError::NoRoom)? })
            }
            ClusterMessage::AskKey { key } => {
                Some(ClusterMessage::KeyIs { key, standing: directory.key_standing(now, &key) })
            }
            ClusterMessage::Standing { request, node, alive } => {
                if let Some(node) = self.node_behind(cluster, &node, directory) {
                    directory.set_alive_through(now, cluster, node, alive);
                }
                Some(ClusterMessage::Done { request })
            }
            ClusterMessage::Settle { request, node, epoch } => {
                if let Some(node) = self.node_behind(cluster, &node, directory) {
                    directory.settle(now, node, epoch);
                }
                Some(ClusterMessage::Done { request })
            }
            ClusterMessage::Held { subject, stream, sequence } => {
                if let Some(place) = self.find_stream(row, subject, stream)
                    && let Some(held) = self.streams.get(place).filter(|open| open.is_at_rest_after(sequence))
                {
                    if held.walk == Walk::Gone {
                        self.drop_stream(now, place, directory);
                    } else {
                        let version = held.held;
                        let risen = self.streams.confirm(place, version);
                        super::acknowledged(now, subject.service, risen, directory);
                    }
                }
                Some(ClusterMessage::Noted { subject, stream, sequence })
            }
            ClusterMessage::Answer { .. }
            | ClusterMessage::KeyIs { .. }
            | ClusterMessage::Done { .. }
            | ClusterMessage::Noted { .. } => {
                bump(&mut self.counters.not_a_request);
                return Err(ServerError::NotARequest);
            }
        })
    }

    /// Handles what a node has said to its cluster. A node behind a cluster has no session here.
    fn passed_on(
        &mut self,
        now: Instant,
        cluster: NodeId,
        from: Sender,
        payload: &[u8],
        directory: &mut impl Directory,
    ) -> Result<Answer, ServerError> {
        let message = Message::decode(payload).map_err(|error| self.malformed(error))?;
        if let Message::Hello(hello) = message {
            return Ok(self.hello_through(now, cluster, from, &hello, directory));
        }
        let Some(node) = self.node_behind(cluster, &from.key, directory) else {
            return Ok(None);
        };
        let epoch = directory.node(node).map_or(0, |record| record.epoch);
        self.statement(now, node, epoch, message, directory)
    }

    fn hello_through(
        &mut self,
        now: Instant,
        cluster: NodeId,
        from: Sender,
        hello: &Hello,
        directory: &mut impl Directory,
    ) -> Answer {
        match directory.hello_through(now, cluster, from, hello) {
            Ok(admission) => Some(self.welcome(from, hello, admission, false)),
            Err(denied) => denied_with(&mut self.counters.hello_refused, hello.request, denied),
        }
    }

    /// A node that the cluster may speak for. Counted when it may not.
    fn node_behind(&mut self, cluster: NodeId, key: &NodeKey, directory: &impl Directory) -> Option<NodeId> {
        if !directory.is_behind(cluster, key) {
            bump(&mut self.counters.not_its_node);
            return None;
        }
        directory.node_of(key)
    }

    /// Whether a stream is a cluster's.
    pub(super) fn is_cluster_stream(&self, row: usize) -> bool {
        let client = self.streams.get(row).map(|stream| stream.client as usize);
        client.and_then(|client| self.sessions.get(client)).is_some_and(|session| session.cluster)
    }
}
