//! Requests to the key directory: lengths and order are checked here, signatures by the core of the user.

use columba_wire::{
    Code, DeviceAddress, DeviceId, PreKeyId, UserId,
    keys::{IdentityKey, NewKeys, PreKey},
    limits::ONE_TIME_KEYS_MAX,
    v1,
};

use crate::core::message::{Ask, KeysAsk};

pub(super) fn put_keys(me: DeviceAddress, request: &v1::PutKeys) -> Result<Ask, Code> {
    let keys = parse_keys(request).ok_or(Code::InvalidArgument)?;
    Ok(Ask::Keys(me.user, KeysAsk::Put(me.device, Box::new(keys))))
}

/// `limited`: whether what the asker takes is counted.
pub(super) fn get_keys(me: DeviceAddress, request: &v1::GetKeys, limited: bool) -> Result<Ask, Code> {
    let user = UserId::try_from(&request.user_id[..]).map_err(|_| Code::InvalidArgument)?;
    let devices: Result<_, _> = request.device_ids.iter().map(|device| DeviceId::new(*device)).collect();
    let devices = devices.map_err(|_| Code::InvalidArgument)?;
    Ok(Ask::Keys(user, KeysAsk::Take { asker: me.user, devices, limited }))
}

fn parse_keys(request: &v1::PutKeys) -> Option<NewKeys> {
    let identity = if request.identity_key.is_empty() && request.identity_signature.is_empty() {
        None
    } else {
        Some(IdentityKey::parse(&request.identity_key, &request.identity_signature)?)
    };
    let fallback = match &request.fallback {
        Some(key) => Some(parse_pre_key(key)?),
        None => None,
    };
    if request.one_time.len() > ONE_TIME_KEYS_MAX {
        return None;
    }
    let one_time = request.one_time.iter().map(parse_pre_key).collect::<Option<Vec<_>>>()?;
    let ascends = one_time.windows(2).all(|pair| pair[0].id < pair[1].id);
    ascends.then_some(NewKeys { identity, fallback, one_time })
}

fn parse_pre_key(key: &v1::PreKey) -> Option<PreKey> {
    PreKey::parse(key).filter(|key| key.id > PreKeyId::ZERO)
}

#[cfg(test)]
mod tests {
    use columba_wire::UserId;

    use super::*;

    fn key(id: u64) -> v1::PreKey {
        v1::PreKey { id, key: vec![1; 32].into(), signature: vec![2; 64].into() }
    }

    fn good() -> v1::PutKeys {
        v1::PutKeys {
            identity_key: vec![3; 32].into(),
            identity_signature: vec![4; 64].into(),
            fallback: Some(key(1)),
            one_time: vec![key(1), key(5)],
        }
    }

    #[test]
    fn keys_of_the_wrong_form_are_refused_whole() {
        let me = DeviceAddress { user: UserId::from_bytes([1; 16]), device: DeviceId::FIRST };
        assert!(put_keys(me, &good()).is_ok());
        assert!(put_keys(me, &v1::PutKeys::default()).is_ok(), "nothing new");
        for (why, bad) in [
            ("a short identity key", v1::PutKeys { identity_key: vec![3; 31].into(), ..good() }),
            ("no identity signature", v1::PutKeys { identity_signature: vec![].into(), ..good() }),
            ("a fallback without a number", v1::PutKeys { fallback: Some(key(0)), ..good() }),
            ("an empty fallback", v1::PutKeys { fallback: Some(v1::PreKey::default()), ..good() }),
            ("a key twice", v1::PutKeys { one_time: vec![key(1), key(1)], ..good() }),
            ("out of order", v1::PutKeys { one_time: vec![key(2), key(1)], ..good() }),
            ("too many", v1::PutKeys { one_time: (1..=101).map(key).collect(), ..good() }),
        ] {
            assert!(put_keys(me, &bad).is_err(), "{why}");
        }
    }
}
