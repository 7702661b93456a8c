//! A change that is the same in many namespaces: worked out and encoded once, carried out in each.
//!
//! It is for what changes often, so it looks at nothing but the number of the ruleset, and has the kernel compare that
//! one: a transaction of elements is one message there and one back.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_plan::{NamespaceState, Op, Table, TableId};

use crate::elements::Message;
use crate::kernel::{Sockets, holds, share};
use crate::netfilter::{self, Generation};
use crate::{KernelError, Netns, ipvs, nft, sysctl};

/// A change of settings, tables and virtual services from one state to another.
#[derive(Debug)]
pub struct Change {
    before: NamespaceState,
    after: NamespaceState,
    settings: Vec<(String, String)>,
    /// What is to be done to tables and virtual services.
    ops: Vec<Op>,
    /// All changes of elements; none if one of them has no place in a message.
    elements: Option<Vec<Message>>,
}

impl Change {
    /// Between two parts of namespaces' states.
    pub fn between(before: NamespaceState, after: NamespaceState) -> Self {
        let have = weft_plan::model::observed(&before);
        let ops: Vec<Op> =
            weft_plan::diff(&have, &after).into_iter().filter(|op| op.is_nft() || op.is_ipvs()).collect();
        let differing = after.sysctls.iter().filter(|(key, value)| before.sysctls.get(*key) != Some(value));
        let settings = differing.map(|(key, value)| (key.clone(), value.clone())).collect();
        let elements = netfilter::encode(&ops.iter().filter(|op| is_of_elements(op)).collect::<Vec<_>>());
        Self { before, after, settings, ops, elements }
    }

    /// The program that sets whole tables must be born inside, and settings are those of the thread's namespace; everything
    /// else goes through sockets that are inside.
    pub(crate) fn needs_thread(&self) -> bool {
        !self.settings.is_empty() || self.elements.is_none() || self.whole().next().is_some()
    }

    /// Says whether the namespace is as it shall be now. If not, nothing is known of its tables any more.
    pub(crate) fn carry_out(&self, sockets: &mut Sockets, netns: &Netns) -> bool {
        let Some((listed, mut tables)) = sockets.tables.take() else { return false };
        if !self.before.tables.iter().all(|(id, table)| holds(&tables, id, table)) {
            sockets.tables = Some((listed, tables));
            return false;
        }
        match self.steps(sockets, netns, listed) {
            Ok(Some(now)) => {
                self.follow(&mut tables);
                sockets.tables = Some((now, tables));
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(namespace = %netns.path().display(), %error, "change not carried out");
                false
            }
        }
    }

    /// The generation afterwards; none if somebody else changed the ruleset.
    fn steps(
        &self,
        sockets: &mut Sockets,
        netns: &Netns,
        listed: Generation,
    ) -> Result<Option<Generation>, KernelError> {
        let mut now = listed;
        let whole: Vec<&Op> = self.whole().collect();
        let asks = self.elements.as_ref().is_none_or(Vec::is_empty) || !whole.is_empty();
        if asks && netfilter::generation(&mut sockets.netfilter)? != Some(now) {
            return Ok(None);
        }
        for (key, value) in &self.settings {
            sysctl::write(key, value)?;
        }
        if !whole.is_empty() {
            nft::apply(&whole)?;
            now = now.next();
        }
        match &self.elements {
            Some(messages) if messages.is_empty() => {}
            Some(messages) => {
                let what = || "change elements".to_owned();
                if !netfilter::change_encoded(&mut sockets.netfilter, now, messages, what)? {
                    return Ok(None);
                }
                now = now.next();
            }
            None => {
                nft::apply(&self.ops.iter().filter(|op| is_of_elements(op)).collect::<Vec<_>>())?;
                now = now.next();
            }
        }
        for op in self.ops.iter().filter(|op| op.is_ipvs()) {
            ipvs::apply(&mut sockets.ipvs, netns, op)?;
        }
        Ok(Some(now))
    }

    fn whole(&self) -> impl Iterator<Item = &Op> {
        self.ops.iter().filter(|op| op.is_nft() && !is_of_elements(op))
    }

    fn follow(&self, tables: &mut BTreeMap<TableId, Arc<Table>>) {
        let gone = self.before.tables.keys().filter(|id| !self.after.tables.contains_key(id));
        gone.filter(|id| !id.is_users()).for_each(|id| drop(tables.remove(id)));
        for op in self.whole() {
            if let Op::SetTable(table) = op {
                tables.insert(table.id.clone(), table.clone());
            }
        }
        share(tables, &self.after);
    }
}

fn is_of_elements(op: &Op) -> bool {
    matches!(op, Op::ChangeElements { .. })
}
