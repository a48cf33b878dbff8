//! What a device does with the key directory: it uploads one-time keys, sends an upload without an answer again, and
//! takes keys of others.

use bytes::Bytes;
use columba_wire::{
    Code, DeviceAddress, DeviceId, PreKeyId, UserId,
    keys::{PreKeyKind, identity_key_bytes, pre_key_bytes},
    v1::{self, client_frame::Kind as Request},
};
use ed25519_dalek::{Signer as _, SigningKey};

use super::{Client, Stage};

/// The number of a request that uploads, and of one that takes.
pub(super) const PUT: u64 = 4;
const TAKE: u64 = 5;

/// A device's dealings with the directory.
#[derive(Default)]
pub struct Keys {
    /// The highest id of an own one-time key.
    pub last: u64,
    upload: Option<v1::PutKeys>,
    /// One-time keys of others that this device was given.
    pub taken: Vec<(DeviceAddress, u64)>,
}

impl Client {
    /// Uploads so many new keys; or the last upload once more, where it has no answer.
    pub fn put_keys(&mut self, count: u64) {
        let (Some(address), Stage::Open) = (self.address, self.stage) else {
            return;
        };
        if self.keys.upload.is_none() {
            self.keys.upload = Some(upload(&self.key, address, self.keys.last, count));
            self.keys.last += count;
        }
        if let Some(upload) = self.keys.upload.clone() {
            self.frame(PUT, Request::PutKeys(upload));
        }
    }

    /// Takes keys of all devices of a user.
    pub fn take_keys(&mut self, user: UserId) {
        if self.stage == Stage::Open {
            let user_id = Bytes::copy_from_slice(user.as_bytes());
            self.frame(TAKE, Request::GetKeys(v1::GetKeys { user_id, device_ids: Vec::new() }));
        }
    }

    pub(super) fn handle_keys_stored(&mut self) {
        self.keys.upload = None;
    }

    /// Where there is no room for more keys they are given up; else the upload is sent again.
    pub(super) fn handle_upload_refused(&mut self, code: Code) {
        match code {
            Code::InvalidArgument => self.keys.upload = None,
            code if code.is_retryable() => {}
            code => self.broken.push(format!("{}: an upload of keys was refused: {code}", self.handle)),
        }
    }

    pub(super) fn handle_keys(&mut self, keys: &v1::Keys) {
        let user = UserId::try_from(&keys.user_id[..]).expect("the node sends ids");
        for bundle in keys.bundles.iter().filter(|bundle| bundle.one_time) {
            let device = DeviceId::new(bundle.device_id).expect("the node sends ids");
            let key = bundle.pre_key.as_ref().expect("a bundle has a pre-key");
            self.keys.taken.push((DeviceAddress { user, device }, key.id));
        }
    }
}

fn upload(device: &SigningKey, address: DeviceAddress, last: u64, count: u64) -> v1::PutKeys {
    let key = [7; 32];
    let sign = |signed: &[u8]| Bytes::copy_from_slice(&device.sign(signed).to_bytes());
    let pre_key = |kind, id| {
        let signature = sign(&pre_key_bytes(kind, address, PreKeyId::new(id), &key));
        v1::PreKey { id, key: Bytes::copy_from_slice(&key), signature }
    };
    v1::PutKeys {
        identity_key: Bytes::copy_from_slice(&key),
        identity_signature: sign(&identity_key_bytes(address, &key)),
        fallback: Some(pre_key(PreKeyKind::Fallback, 1)),
        one_time: (last + 1..=last + count).map(|id| pre_key(PreKeyKind::OneTime, id)).collect(),
    }
}
