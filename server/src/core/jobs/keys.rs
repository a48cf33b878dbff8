//! The key directory: what devices store, and who is given what. Runs on the core of the user whose keys they are.

use columba_engine::{
    env::{Clock, Disk, executor::yield_now},
    partition::{command::Command, effect::Outcome, keys::DeviceKeys},
};
use columba_wire::{
    Code, DeviceAddress, DeviceId, UserId,
    keys::{KeyBundle, NewKeys, PreKeyKind, identity_key_bytes, pre_key_bytes},
    v1::{self, server_frame::Kind},
};

use super::id_bytes;
use crate::{
    core::{
        Core, host,
        message::{Answer, KeysAsk},
    },
    session::handshake::verify,
};

impl<D: Disk, C: Clock> Core<D, C> {
    pub(super) async fn answer_keys(&self, user: UserId, ask: KeysAsk) -> Result<Answer, Code> {
        match ask {
            KeysAsk::Put(device, keys) => self.put_keys(DeviceAddress { user, device }, *keys).await,
            KeysAsk::Take { asker, devices, limited } => self.take_keys(asker, user, &devices, limited).await,
        }
    }

    async fn put_keys(&self, device: DeviceAddress, keys: NewKeys) -> Result<Answer, Code> {
        let partition = self.owned(|core| core.state.borrow().router.user(device.user));
        let row = partition.device(device).await.map_err(|error| self.code_of(&error))?;
        let Some(row) = row else {
            return Err(Code::Unauthenticated);
        };
        let before = partition.device_keys(device).await.map_err(|error| self.code_of(&error))?;
        let keys = DeviceKeys::fresh(before.as_ref(), keys);
        // The verdict of `apply` counts; here it saves the work of checking what will be refused.
        if DeviceKeys::with(before.as_ref(), keys.clone()).is_none() {
            return Err(Code::InvalidArgument);
        }
        check_signatures(&row.key, device, &keys).await?;
        match self.propose(partition.id(), Command::PutKeys { device, keys }).await? {
            Outcome::KeysStored(one_time_keys) => Ok(Answer::Reply(Kind::KeysStored(v1::KeysStored { one_time_keys }))),
            other => Err(host::refusal(&other).unwrap_or(Code::Internal)),
        }
    }

    async fn take_keys(&self, asker: UserId, user: UserId, wanted: &[DeviceId], limited: bool) -> Result<Answer, Code> {
        if limited && let Err(wait) = self.with_state(|state| state.take_key_token(asker, user)) {
            return Ok(Answer::Reply(Kind::Error(wait.to_error())));
        }
        let partition = self.owned(|core| core.state.borrow().router.user(user));
        let Some(row) = partition.user(user).await.map_err(|error| self.code_of(&error))? else {
            return Err(Code::UnknownUser);
        };
        let is_wanted = |device: &DeviceId| wanted.is_empty() || wanted.contains(device);
        let devices: Vec<_> = row.devices.into_iter().filter(is_wanted).collect();
        match self.propose(partition.id(), Command::TakeKeys { user, devices }).await? {
            Outcome::Keys(bundles) => {
                let one_time = bundles.iter().filter(|bundle| bundle.one_time).count();
                self.metrics.one_time_keys_taken_total.add(one_time as u64);
                let bundles = bundles.iter().map(bundle_frame).collect();
                Ok(Answer::Reply(Kind::Keys(v1::Keys { user_id: id_bytes(user.as_bytes()), bundles })))
            }
            other => Err(host::refusal(&other).unwrap_or(Code::Internal)),
        }
    }
}

/// Checks every signature: a hundred take some milliseconds, so the core's other work goes on between two.
async fn check_signatures(device_key: &[u8; 32], device: DeviceAddress, keys: &NewKeys) -> Result<(), Code> {
    if let Some(identity) = &keys.identity
        && !verify(device_key, &identity_key_bytes(device, &identity.key), &identity.signature)
    {
        return Err(Code::InvalidArgument);
    }
    let fallback = keys.fallback.iter().map(|key| (PreKeyKind::Fallback, key));
    for (kind, key) in fallback.chain(keys.one_time.iter().map(|key| (PreKeyKind::OneTime, key))) {
        yield_now().await;
        if !verify(device_key, &pre_key_bytes(kind, device, key.id, &key.key), &key.signature) {
            return Err(Code::InvalidArgument);
        }
    }
    Ok(())
}

fn bundle_frame(bundle: &KeyBundle) -> v1::KeyBundle {
    v1::KeyBundle {
        device_id: bundle.device.get(),
        device_key: bundle.device_key.to_vec().into(),
        identity_key: bundle.identity.key.to_vec().into(),
        identity_signature: bundle.identity.signature.to_vec().into(),
        pre_key: Some(bundle.pre_key.to_frame()),
        one_time: bundle.one_time,
    }
}
