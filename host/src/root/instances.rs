//! What runs where and how it is picked: attach, adjust, detach, and settling a node that has started again.

use acorn_core::addr::Dual;
use acorn_core::ids::{InstanceId, NodeId, ServiceId, ServiceName};
use acorn_core::sync::message::{Adjust, Adjustment, Attach, AttachKind, Attached, Detach, Refusal, Turn};
use acorn_core::time::Instant;

use super::Root;
use super::draft::Draft;
use super::row::{Edit, InstanceRow, Row, ServiceRow, SettingsRow};
use super::settings::INSTANCE_NUMBER_MAX;
use super::state::{Node, Service, State};

/// The number of the host's own instance in its hidden service.
const HOST_INSTANCE: u32 = 0;

impl Root {
    pub(super) fn place(
        &mut self,
        now: Instant,
        id: NodeId,
        attach: &Attach,
        wanted: Adjustment,
    ) -> Result<Attached, Refusal> {
        let node = self.state.nodes.get(&id).ok_or(Refusal::NotANode)?;
        if !is_namespace_ip(node, attach.namespace_ip) {
            return Err(Refusal::NamespaceIp);
        }
        let turn = Turn { epoch: node.row.epoch, request: attach.request };
        if let Some((last, _)) = self.detached.get(&(id, attach.namespace_ip.v4))
            && !turn.is_after(*last)
        {
            return Err(Refusal::NoSuchInstance);
        }
        let mut draft = Draft::new(&self.state, &self.settings, self.clock, now);
        let there = self.state.places.get(&(id, attach.namespace_ip.v4)).copied();
        let (instance, from_top) = match &attach.kind {
            AttachKind::New(name) => (new_instance(&self.state, name, there)?, false),
            AttachKind::Take(name, number) => {
                let (service, _) = named(&self.state, name)?;
                if *number > INSTANCE_NUMBER_MAX {
                    return Err(Refusal::Full);
                }
                (InstanceId { service, number: *number }, false)
            }
            AttachKind::Resume(instance) => {
                let row = self.state.instance(*instance).ok_or(Refusal::NoSuchInstance)?.row;
                if row.node != id {
                    return Err(Refusal::Moved);
                }
                (*instance, false)
            }
            AttachKind::Host => (InstanceId { service: host_service(&mut draft, id)?, number: HOST_INSTANCE }, true),
        };
        // One place has one instance: the node's newest word counts.
        if let Some(stale) = there.filter(|there| *there != instance) {
            draft.withdraw(stale);
        }
        let before = self.state.instance(instance).map(|instance| instance.row);
        let instance_ip = match before {
            Some(row) => row.instance_ip,
            None if draft.instance_count() >= self.limits.instances => return Err(Refusal::Full),
            None => draft.claim_instance_ip(instance, from_top).ok_or(Refusal::AddressesExhausted)?,
        };
        let epoch = node.row.epoch;
        let is_new = before.is_none_or(|row| row.node != id);
        let mut settings = before.map_or_else(SettingsRow::default, |row| row.settings);
        if is_new {
            // What comes from another node keeps its settings, but not the turns of that node.
            settings = settings.adjusted(wanted, turn);
        }
        let row = InstanceRow { instance_ip, namespace_ip: attach.namespace_ip, node: id, epoch, settings };
        if before != Some(row) {
            draft.put(Row::Instance(instance, row));
        }
        let edits = draft.into_edits();
        self.commit_request(now, edits)?;
        self.state.said(now, instance);
        if let Some(load) = wanted.load.filter(|_| is_new) {
            self.note_load(instance, load);
        }
        Ok(Attached { request: attach.request, instance, instance_ip })
    }

    /// Changes how an instance is picked. Only what is durable costs a write.
    pub(super) fn repick(&mut self, now: Instant, node: NodeId, adjust: &Adjust) -> Result<(), Refusal> {
        if !self.state.nodes.contains_key(&node) {
            return Err(Refusal::NotANode);
        }
        let id = adjust.instance;
        let instance = self.state.instance(id).ok_or(Refusal::NoSuchInstance)?;
        if instance.row.node != node {
            return Err(Refusal::Moved);
        }
        if !adjust.turn.is_after(instance.turn) {
            return Ok(());
        }
        let Adjustment { weight, priority, load, draining } = adjust.change;
        // Also when it is so already: an older request that comes after the next start has to find that it is late.
        if weight.is_some() || priority.is_some() || draining.is_some() {
            let settings = instance.row.settings.adjusted(adjust.change, adjust.turn);
            let row = InstanceRow { settings, ..instance.row };
            self.commit_request(now, vec![Edit::Put(Row::Instance(id, row))])?;
        }
        self.state.adjusted(id, adjust.turn);
        if let Some(load) = load {
            self.note_load(id, load);
        }
        Ok(())
    }

    fn note_load(&mut self, id: InstanceId, load: u16) {
        if self.state.instance(id).is_some_and(|instance| instance.load != load) {
            self.make_room_for_versions(1);
            self.state.set_load(id, load);
        }
    }

    pub(super) fn withdraw(&mut self, now: Instant, node: NodeId, detach: &Detach) -> Result<(), Refusal> {
        let id = detach.instance;
        let epoch = self.state.nodes.get(&node).ok_or(Refusal::NotANode)?.row.epoch;
        let Some(instance) = self.state.instance(id) else {
            return Ok(());
        };
        if instance.row.node != node {
            return Err(Refusal::Moved);
        }
        let mut draft = Draft::new(&self.state, &self.settings, self.clock, now);
        draft.withdraw(id);
        let place = (node, instance.row.namespace_ip.v4);
        let edits = draft.into_edits();
        self.commit_request(now, edits)?;
        self.detached.insert(place, (Turn { epoch, request: detach.request }, now));
        Ok(())
    }

    /// Withdraws what a node has not said again since its epoch began; and when the two have disagreed in the epoch on what runs
    /// there, what it has not said again since then.
    pub(super) fn settle_node(&mut self, now: Instant, id: NodeId, epoch: u32) -> Result<(), Refusal> {
        // A later epoch settles by itself.
        let Some(node) = self.state.nodes.get(&id).filter(|node| node.row.epoch == epoch) else {
            return Ok(());
        };
        let mut draft = Draft::new(&self.state, &self.settings, self.clock, now);
        for instance in &node.instances {
            let is_stale = self.state.instance(*instance).is_some_and(|instance| {
                let unsaid = node.disagrees_since.is_some_and(|since| instance.said < Some(since));
                instance.row.epoch != epoch || unsaid
            });
            if is_stale {
                draft.withdraw(*instance);
            }
        }
        let edits = draft.into_edits();
        self.commit_request(now, edits)
    }
}

/// Both addresses lie in the node's subnets, and at the same offset: so no two instances can share one of them.
fn is_namespace_ip(node: &Node, pair: Dual) -> bool {
    let offset = node.row.subnet.offset_of(pair.v4.into());
    offset.and_then(|offset| node.row.subnet.namespace_ip(offset)).is_some_and(|ip| ip.dual() == pair)
}

fn named<'a>(state: &'a State, name: &ServiceName) -> Result<(ServiceId, &'a Service), Refusal> {
    let id = state.names.get(name).ok_or(Refusal::NoSuchService)?;
    Ok((*id, state.services.get(id).ok_or(Refusal::NoSuchService)?))
}

/// The instance that is there already, or the lowest number that is not in use: numbers stay small, so that people can name them,
/// and a service that loses an instance and gets one again has the same numbers as before.
fn new_instance(state: &State, name: &ServiceName, there: Option<InstanceId>) -> Result<InstanceId, Refusal> {
    let (id, service) = named(state, name)?;
    if let Some(there) = there.filter(|there| there.service == id) {
        return Ok(there);
    }
    let number = (0..=INSTANCE_NUMBER_MAX).zip(service.instances.keys().map(Some).chain(std::iter::repeat(None)));
    let mut unused = number.filter(|(number, used)| *used != Some(number)).map(|(number, _)| number);
    Ok(InstanceId { service: id, number: unused.next().ok_or(Refusal::Full)? })
}

/// The hidden service of a node's host, made when it is not there.
fn host_service(draft: &mut Draft<'_>, node: NodeId) -> Result<ServiceId, Refusal> {
    if let Some(id) = draft.state().hosts.get(&node) {
        return Ok(*id);
    }
    let id = draft.new_service_id().ok_or(Refusal::Full)?;
    draft.put(Row::Service(
        id,
        ServiceRow { name: ServiceName::EMPTY, host: Some(node), ips: Vec::new(), fixed: Vec::new() },
    ));
    Ok(id)
}
