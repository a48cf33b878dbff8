//! Users and keys: between the frames and what the application sees.

use bytes::Bytes;
use columba_wire::{DeviceId, UserId, v1};

use crate::types::{
    IdentityKey, KeyBundle, NewKeys, OwnAccount, PreKey, Privacy, Profile, ProfileChange, Roster, User,
};

pub(super) fn parse_user(user: v1::User) -> Option<User> {
    of_parts(&user.user_id, user.handle, user.profile, user.profile_version)
}

pub(super) fn parse_account(account: v1::Account) -> Option<OwnAccount> {
    let privacy = Privacy::from_frame(account.privacy.unwrap_or_default());
    let user = of_parts(&account.user_id, account.handle, account.profile, account.profile_version)?;
    Some(OwnAccount { user, privacy, roster_version: account.roster_version })
}

pub(super) fn parse_roster(contacts: &v1::Contacts) -> Option<Roster> {
    let users = |ids: &[Bytes]| ids.iter().map(|id| UserId::try_from(&id[..]).ok()).collect::<Option<Vec<_>>>();
    Some(Roster {
        contacts: users(&contacts.contacts)?,
        blocked: users(&contacts.blocked)?,
        version: contacts.roster_version,
    })
}

fn of_parts(user: &[u8], handle: String, profile: Option<v1::Profile>, profile_version: u32) -> Option<User> {
    let user = UserId::try_from(user).ok()?;
    let v1::Profile { name, about, picture } = profile.unwrap_or_default();
    Some(User { user, handle, profile: Profile { name, about, picture }, profile_version })
}

pub(super) fn parse_keys(keys: &v1::Keys) -> Option<Vec<KeyBundle>> {
    keys.bundles.iter().map(parse_bundle).collect()
}

fn parse_bundle(bundle: &v1::KeyBundle) -> Option<KeyBundle> {
    Some(KeyBundle {
        device: DeviceId::new(bundle.device_id).ok()?,
        device_key: bundle.device_key[..].try_into().ok()?,
        identity: IdentityKey::parse(&bundle.identity_key, &bundle.identity_signature)?,
        pre_key: PreKey::parse(bundle.pre_key.as_ref()?)?,
        one_time: bundle.one_time,
    })
}

pub(crate) fn put_keys(keys: &NewKeys) -> v1::PutKeys {
    let (identity_key, identity_signature) = keys.identity.map_or((Bytes::new(), Bytes::new()), |identity| {
        (Bytes::copy_from_slice(&identity.key), Bytes::copy_from_slice(&identity.signature))
    });
    v1::PutKeys {
        identity_key,
        identity_signature,
        fallback: keys.fallback.as_ref().map(PreKey::to_frame),
        one_time: keys.one_time.iter().map(PreKey::to_frame).collect(),
    }
}

pub(crate) fn set_profile(change: ProfileChange) -> v1::SetProfile {
    let ProfileChange { name, about, picture } = change;
    v1::SetProfile { name, about, picture }
}
