//! Whose account the node has ended is not there, and nobody else is taken for it.

use std::collections::BTreeSet;

use columba_wire::UserId;

use super::user_of;
use crate::client::Client;

/// Who has asked for the end of its account and does not exist; `exist` are those who do.
pub fn gone(clients: &[Client], exist: &BTreeSet<UserId>) -> BTreeSet<UserId> {
    let asked = clients.iter().filter(|client| client.deletion.asked).filter_map(user_of);
    asked.filter(|user| !exist.contains(user)).collect()
}

/// An account whose end was confirmed exists, or one does not whose end nobody asked for.
pub fn only_who_asked_is_gone(clients: &[Client], exist: &BTreeSet<UserId>) -> Vec<String> {
    let mut broken = Vec::new();
    for client in clients {
        let Some(user) = user_of(client) else {
            continue;
        };
        if client.deletion.confirmed && exist.contains(&user) {
            broken.push(format!("{} is deleted, and exists", client.handle));
        }
        let asked = clients.iter().any(|other| other.deletion.asked && user_of(other) == Some(user));
        if !asked && !exist.contains(&user) {
            broken.push(format!("{} does not exist, and has not asked for that", client.handle));
        }
    }
    broken
}

/// A message was refused because its user does not exist, who has not asked for the end of its account.
pub fn only_who_is_gone_is_unknown(clients: &[Client]) -> Vec<String> {
    let asked: BTreeSet<_> = clients.iter().filter(|client| client.deletion.asked).filter_map(user_of).collect();
    let refused = |client: &Client| {
        let wrong: Vec<_> = client.deletion.refused.iter().filter(|(to, _)| !asked.contains(to)).collect();
        wrong.first().map(|(to, _)| format!("{}: {to} was called unknown, and is there", client.handle))
    };
    clients.iter().filter_map(refused).collect()
}
