//! Who may register: nobody, anybody near, holders of an invite, holders of a token signed by somebody trusted.
//!
//! Invariants
//! - A refusal does not say which part of a credential was wrong.
//! - Comparing an invite takes the same time wherever it differs, and whichever of the invites it is.
//! - A token without `exp`, or for another handle, is refused; so is any algorithm but the configured one.

use std::net::IpAddr;

use columba_engine::env::clock::WallTime;
use columba_wire::{limits::CREDENTIAL_BYTES_MAX, v1};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// Why a registration is refused. The client learns only that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody may register.
    Closed,
    /// Registration is open, but not for this address.
    NotFromHere,
    /// The invite or token is not accepted.
    Credential,
}

/// From where anybody may register, where registration is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenTo {
    /// From this machine.
    Loopback,
    /// From anywhere.
    Any,
}

/// Which signature a token must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256: a shared secret.
    Hs256,
    /// Ed25519: a public key in PEM.
    EdDsa,
    /// ECDSA over P-256: a public key in PEM.
    Es256,
}

/// Who may register.
#[derive(Clone)]
pub struct RegistrationPolicy(Mode);

#[derive(Clone)]
enum Mode {
    Closed,
    Open(OpenTo),
    /// SHA-256 of each code.
    Invite(Vec<[u8; 32]>),
    Jwt {
        key: DecodingKey,
        algorithm: Algorithm,
    },
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// Seconds since 1970. Some issuers write fractions.
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
}

impl RegistrationPolicy {
    /// Nobody may register.
    pub fn closed() -> Self {
        Self(Mode::Closed)
    }

    /// Anybody on this machine may register: the default.
    pub fn open_to_loopback() -> Self {
        Self::open(OpenTo::Loopback)
    }

    /// Anybody there may register.
    pub fn open(to: OpenTo) -> Self {
        Self(Mode::Open(to))
    }

    /// Who knows one of these codes may register; a code is good until it is taken from the configuration.
    pub fn invite<'a>(codes: impl IntoIterator<Item = &'a str>) -> Self {
        Self(Mode::Invite(codes.into_iter().map(|code| Sha256::digest(code.as_bytes()).into()).collect()))
    }

    /// Who brings a JSON Web Token may register: `sub` is the handle, `exp` lies in the future, the signature is right.
    ///
    /// # Errors
    /// `key` is not a key for the algorithm, or a secret under 32 bytes.
    pub fn jwt(algorithm: JwtAlgorithm, key: &[u8]) -> Result<Self> {
        let unusable = |reason: String| Error::Config {
            key: "registration.jwt_key".to_owned(),
            origin: "key file".to_owned(),
            reason,
        };
        let (algorithm, key) = match algorithm {
            JwtAlgorithm::Hs256 if key.len() < 32 => {
                return Err(unusable("a secret has at least 32 bytes".to_owned()));
            }
            JwtAlgorithm::Hs256 => (Algorithm::HS256, Ok(DecodingKey::from_secret(key))),
            JwtAlgorithm::EdDsa => (Algorithm::EdDSA, DecodingKey::from_ed_pem(key)),
            JwtAlgorithm::Es256 => (Algorithm::ES256, DecodingKey::from_ec_pem(key)),
        };
        let key = key.map_err(|error| unusable(format!("not a public key in PEM for this algorithm: {error}")))?;
        Ok(Self(Mode::Jwt { key, algorithm }))
    }

    /// What clients are told.
    pub fn kind(&self) -> v1::Registration {
        match self.0 {
            Mode::Closed => v1::Registration::Closed,
            Mode::Open(_) => v1::Registration::Open,
            Mode::Invite(_) => v1::Registration::Invite,
            Mode::Jwt { .. } => v1::Registration::Jwt,
        }
    }

    /// Whether `peer` may register `handle` with `credential` now.
    ///
    /// # Errors
    /// Why not: for logs, not for the client.
    pub fn check(&self, peer: IpAddr, handle: &str, credential: &str, now: WallTime) -> Result<(), Refusal> {
        if credential.len() > CREDENTIAL_BYTES_MAX {
            return Err(Refusal::Credential);
        }
        match &self.0 {
            Mode::Closed => Err(Refusal::Closed),
            Mode::Open(OpenTo::Any) => Ok(()),
            Mode::Open(OpenTo::Loopback) if peer.to_canonical().is_loopback() => Ok(()),
            Mode::Open(OpenTo::Loopback) => Err(Refusal::NotFromHere),
            Mode::Invite(codes) => check_invite(codes, credential),
            Mode::Jwt { key, algorithm } => check_token(key, *algorithm, handle, credential, now),
        }
    }
}

impl core::fmt::Debug for RegistrationPolicy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("RegistrationPolicy").field(&self.kind()).finish()
    }
}

fn check_invite(codes: &[[u8; 32]], credential: &str) -> Result<(), Refusal> {
    let given: [u8; 32] = Sha256::digest(credential.as_bytes()).into();
    let mut is_known = false;
    for code in codes {
        let difference = code.iter().zip(&given).fold(0, |bits, (a, b)| bits | (a ^ b));
        is_known |= core::hint::black_box(difference) == 0;
    }
    if is_known { Ok(()) } else { Err(Refusal::Credential) }
}

fn check_token(
    key: &DecodingKey,
    algorithm: Algorithm,
    handle: &str,
    token: &str,
    now: WallTime,
) -> Result<(), Refusal> {
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["exp", "sub"]);
    // The library would ask the machine's clock; time is compared below.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let claims = jsonwebtoken::decode::<Claims>(token, key, &validation).map_err(|_| Refusal::Credential)?.claims;
    let now = std::time::Duration::from_millis(now.as_millis()).as_secs_f64();
    if claims.sub == handle && claims.exp > now && claims.nbf.is_none_or(|from| from <= now) {
        Ok(())
    } else {
        Err(Refusal::Credential)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;

    const NOW: WallTime = WallTime::from_millis(1_700_000_000_000);
    const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

    fn check(policy: &RegistrationPolicy, peer: &str, credential: &str) -> Result<(), Refusal> {
        policy.check(peer.parse().unwrap(), "ada", credential, NOW)
    }

    fn token(claims: &serde_json::Value, key: &[u8], algorithm: Algorithm) -> String {
        jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(key)).unwrap()
    }

    #[test]
    fn open_to_loopback_admits_nobody_from_outside() {
        let policy = RegistrationPolicy::open_to_loopback();
        assert_eq!(policy.kind(), v1::Registration::Open);
        assert_eq!(check(&policy, "127.0.0.1", ""), Ok(()));
        assert_eq!(check(&policy, "::1", ""), Ok(()));
        assert_eq!(check(&policy, "::ffff:127.0.0.1", ""), Ok(()));
        assert_eq!(check(&policy, "192.0.2.7", ""), Err(Refusal::NotFromHere));
        assert_eq!(check(&RegistrationPolicy::open(OpenTo::Any), "192.0.2.7", ""), Ok(()));
        assert_eq!(check(&RegistrationPolicy::closed(), "127.0.0.1", ""), Err(Refusal::Closed));
    }

    #[test]
    fn an_invite_is_one_of_the_codes_and_nothing_near_it() {
        let policy = RegistrationPolicy::invite(["first code", "second code"]);
        assert_eq!(check(&policy, "192.0.2.7", "second code"), Ok(()));
        for wrong in ["", "first cod", "first code ", "third code"] {
            assert_eq!(check(&policy, "127.0.0.1", wrong), Err(Refusal::Credential), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_is_for_one_handle_and_for_a_time() {
        let policy = RegistrationPolicy::jwt(JwtAlgorithm::Hs256, SECRET).unwrap();
        let good = json!({"sub": "ada", "exp": 1_700_000_060});
        assert_eq!(check(&policy, "192.0.2.7", &token(&good, SECRET, Algorithm::HS256)), Ok(()));
        let other_key = b"another secret of thirty-two bytes!!";
        for (claims, key, algorithm) in [
            (json!({"sub": "ada", "exp": 1_699_999_999}), SECRET, Algorithm::HS256),
            (json!({"sub": "bob", "exp": 1_700_000_060}), SECRET, Algorithm::HS256),
            (json!({"sub": "ada", "exp": 1_700_000_060, "nbf": 1_700_000_030}), SECRET, Algorithm::HS256),
            (json!({"sub": "ada"}), SECRET, Algorithm::HS256),
            (json!({"exp": 1_700_000_060}), SECRET, Algorithm::HS256),
            (good.clone(), other_key, Algorithm::HS256),
            (good.clone(), SECRET, Algorithm::HS512),
        ] {
            let token = token(&claims, key, algorithm);
            assert_eq!(check(&policy, "192.0.2.7", &token), Err(Refusal::Credential), "{claims} {algorithm:?}");
        }
        for garbage in ["", ".", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ."] {
            assert_eq!(check(&policy, "192.0.2.7", garbage), Err(Refusal::Credential), "{garbage:?}");
        }
    }

    #[test]
    fn a_key_that_is_none_is_refused_at_start() {
        assert!(RegistrationPolicy::jwt(JwtAlgorithm::Hs256, b"short").is_err());
        assert!(RegistrationPolicy::jwt(JwtAlgorithm::EdDsa, b"not pem").is_err());
        assert!(RegistrationPolicy::jwt(JwtAlgorithm::Es256, b"not pem").is_err());
    }

    #[test]
    fn a_public_key_checks_tokens_of_its_owner() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let policy = RegistrationPolicy::jwt(JwtAlgorithm::EdDsa, pair.public_key_pem().as_bytes()).unwrap();
        let claims = json!({"sub": "ada", "exp": 1_700_000_060});
        let key = EncodingKey::from_ed_der(pair.serialized_der());
        let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap();
        assert_eq!(check(&policy, "192.0.2.7", &token), Ok(()));
        assert_eq!(check(&policy, "192.0.2.7", &token[..token.len() - 4]), Err(Refusal::Credential));
    }
}
