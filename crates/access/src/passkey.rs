//! Passkeys (W3C Web Authentication, level 3): made on a device that verifies its owner, checked by the crate
//! `webauthn_rp`. What waits for a device's answer is held in memory, for five minutes.

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use webauthn_rp::bin::{Decode as _, Encode as _};
use webauthn_rp::request::auth::AuthenticationVerificationOptions;
use webauthn_rp::request::register::{
    CredProtect, Nickname, PublicKeyCredentialUserEntity, RegistrationVerificationOptions, UserHandle64, Username,
};
use webauthn_rp::request::{
    AsciiDomain, ExtensionInfo, FixedCapHashSet, InsertResult, PublicKeyCredentialDescriptor, RpId,
};
use webauthn_rp::response::register::{CompressedPubKey, DynamicState, StaticState};
use webauthn_rp::response::{AuthTransports, CredentialId};
use webauthn_rp::{
    AuthenticatedCredential, DiscoverableAuthentication64, DiscoverableAuthenticationServerState,
    DiscoverableCredentialRequestOptions, PublicKeyCredentialCreationOptions, Registration, RegistrationServerState,
};

/// Passkeys of one person, at most.
pub const PASSKEYS_MAX: usize = 10;
/// Answers of devices that are waited for at once, of each sort.
const WAITING_MAX: usize = 4096;
/// Bytes of what stands for a person on their device; it says nothing of them.
pub const HANDLE_BYTES: usize = 64;

/// A passkey as it is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passkey {
    /// Credential id, base64url.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// When it was added (milliseconds).
    pub added_ms: u64,
    /// Public key and what was agreed on, base64url.
    fixed: String,
    /// Counter and what the device last said of itself, base64url.
    state: String,
    /// How the device is reached.
    transports: u8,
}

impl std::fmt::Debug for Passkey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passkey(..)")
    }
}

/// Why a device's answer opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many wait, or another thread failed.
    #[error("too many wait for their device")]
    Busy,
    /// It is of no question that was asked, or does not hold.
    #[error("the device's answer does not hold")]
    NotTrue,
}

type Fixed = StaticState<CompressedPubKey<[u8; 32], [u8; 32], [u8; 48], Vec<u8>>>;

/// The site that passkeys are of, and what waits for an answer.
pub struct Passkeys {
    site: RpId,
    origin: String,
    adding: Mutex<FixedCapHashSet<RegistrationServerState<HANDLE_BYTES>>>,
    opening: Mutex<FixedCapHashSet<DiscoverableAuthenticationServerState>>,
}

fn held<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>, Refused> {
    mutex.lock().map_err(|_| Refused::Busy)
}

fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

impl Passkeys {
    /// Of a site that browsers know by this address: `https://` and a name, or `http://localhost`. None of another: a
    /// browser lets no passkey be made there.
    pub fn of(url: &str) -> Option<Passkeys> {
        let origin = url.trim_end_matches('/');
        let (scheme, rest) = origin.split_once("://")?;
        let host = rest.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let host = host.map_or(rest, |(host, _)| host);
        let is_name = host.parse::<std::net::IpAddr>().is_err() && !host.contains(['/', '[', ']', '@']);
        if !is_name || !(scheme == "https" || scheme == "http" && host == "localhost") {
            return None;
        }
        Some(Passkeys {
            site: RpId::Domain(AsciiDomain::try_from(host.to_ascii_lowercase()).ok()?),
            origin: origin.to_ascii_lowercase(),
            adding: Mutex::new(FixedCapHashSet::new(WAITING_MAX)),
            opening: Mutex::new(FixedCapHashSet::new(WAITING_MAX)),
        })
    }

    /// Begins to add one: what the browser is asked (PublicKeyCredentialCreationOptionsJSON).
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn add(
        &self,
        handle: &[u8; HANDLE_BYTES],
        (name, address): (&str, &str),
        there: &[Passkey],
    ) -> Result<String, Refused> {
        let Ok(handle) = UserHandle64::decode(*handle);
        let entity = PublicKeyCredentialUserEntity {
            name: Username::try_from(Cow::Borrowed(address)).map_err(|_| Refused::NotTrue)?,
            id: &handle,
            display_name: Nickname::try_from(Cow::Borrowed(name)).ok(),
        };
        let mut known = Vec::new();
        for passkey in there {
            let id = URL_SAFE_NO_PAD.decode(&passkey.id).map_err(|_| Refused::NotTrue)?;
            let id = CredentialId::<Vec<u8>>::decode(id).map_err(|_| Refused::NotTrue)?;
            let transports = AuthTransports::decode(passkey.transports).map_err(|_| Refused::NotTrue)?;
            known.push(PublicKeyCredentialDescriptor { id, transports });
        }
        let mut options = PublicKeyCredentialCreationOptions::passkey(&self.site, entity, known);
        // Asked for, not insisted on: devices that keep passkeys for a whole account do not know it.
        options.extensions.cred_protect = CredProtect::UserVerificationRequired(ExtensionInfo::AllowDontEnforceValue);
        let (waits, asked) = options.start_ceremony().map_err(|_| Refused::NotTrue)?;
        let asked = serde_json::to_string(&asked).map_err(|_| Refused::NotTrue)?;
        match held(&self.adding)?.insert_or_replace_all_expired(waits) {
            InsertResult::Success => Ok(asked),
            _ => Err(Refused::Busy),
        }
    }

    /// What the device answered (RegistrationResponseJSON), as it is kept.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn added(
        &self,
        handle: &[u8; HANDLE_BYTES],
        (answer, name, now_ms): (&[u8], &str, u64),
    ) -> Result<Passkey, Refused> {
        let answer = Registration::from_json_relaxed(answer).map_err(|_| Refused::NotTrue)?;
        let challenge = answer.challenge_relaxed().map_err(|_| Refused::NotTrue)?;
        let waits = held(&self.adding)?.take(&challenge).ok_or(Refused::NotTrue)?;
        let origins = [self.origin.as_str()];
        let options = RegistrationVerificationOptions::<&str, &str> {
            allowed_origins: &origins,
            client_data_json_relaxed: true,
            ..RegistrationVerificationOptions::default()
        };
        let made = waits.verify(&self.site, &answer, &options).map_err(|_| Refused::NotTrue)?;
        if made.user_id().as_ref() != handle {
            return Err(Refused::NotTrue);
        }
        let (Ok(fixed), Ok(state)) = (made.static_state().encode(), made.dynamic_state().encode());
        let Ok(transports) = made.transports().encode();
        Ok(Passkey {
            id: URL_SAFE_NO_PAD.encode(made.id()),
            name: name.to_owned(),
            added_ms: now_ms,
            fixed: URL_SAFE_NO_PAD.encode(fixed),
            state: URL_SAFE_NO_PAD.encode(state),
            transports,
        })
    }

    /// Begins to open with one: what the browser is asked (PublicKeyCredentialRequestOptionsJSON).
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn open(&self) -> Result<String, Refused> {
        let options = DiscoverableCredentialRequestOptions::passkey(&self.site);
        let (waits, asked) = options.start_ceremony().map_err(|_| Refused::NotTrue)?;
        let asked = serde_json::to_string(&asked).map_err(|_| Refused::NotTrue)?;
        match held(&self.opening)?.insert_or_replace_all_expired(waits) {
            InsertResult::Success => Ok(asked),
            _ => Err(Refused::Busy),
        }
    }

    /// Reads what a device answered (AuthenticationResponseJSON).
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn read(answer: &[u8]) -> Result<Answer, Refused> {
        DiscoverableAuthentication64::from_json_relaxed(answer).map(Answer).map_err(|_| Refused::NotTrue)
    }

    /// Checks it against the passkey that it is of; the passkey as it is to be kept now.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn opened(&self, answer: &Answer, handle: &[u8; HANDLE_BYTES], passkey: &Passkey) -> Result<Passkey, Refused> {
        let challenge = answer.0.challenge_relaxed().map_err(|_| Refused::NotTrue)?;
        let waits = held(&self.opening)?.take(&challenge).ok_or(Refused::NotTrue)?;
        let fixed = URL_SAFE_NO_PAD.decode(&passkey.fixed).map_err(|_| Refused::NotTrue)?;
        let fixed = Fixed::decode(&fixed).map_err(|_| Refused::NotTrue)?;
        let state = decoded(&passkey.state).ok_or(Refused::NotTrue)?;
        let state = DynamicState::decode(state).map_err(|_| Refused::NotTrue)?;
        let Ok(handle) = UserHandle64::decode(*handle);
        let id = URL_SAFE_NO_PAD.decode(&passkey.id).map_err(|_| Refused::NotTrue)?;
        let id = CredentialId::<&[u8]>::decode(&id).map_err(|_| Refused::NotTrue)?;
        let mut held = AuthenticatedCredential::new(id, &handle, fixed, state).map_err(|_| Refused::NotTrue)?;
        let origins = [self.origin.as_str()];
        let options = AuthenticationVerificationOptions::<&str, &str> {
            allowed_origins: &origins,
            client_data_json_relaxed: true,
            ..AuthenticationVerificationOptions::default()
        };
        waits.verify(&self.site, &answer.0, &mut held, &options).map_err(|_| Refused::NotTrue)?;
        let Ok(state) = held.dynamic_state().encode();
        Ok(Passkey { state: URL_SAFE_NO_PAD.encode(state), ..passkey.clone() })
    }
}

/// What a device answered; nothing of it was checked.
pub struct Answer(DiscoverableAuthentication64);

impl Answer {
    /// The credential id that it names, base64url.
    pub fn id(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.raw_id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passkeys_are_of_names_that_browsers_trust() {
        for url in ["https://history.shop.example", "https://shop.example:8443/", "http://localhost:8420"] {
            assert!(Passkeys::of(url).is_some(), "{url}");
        }
        for url in [
            "http://shop.example",
            "https://192.0.2.1",
            "https://[2001:db8::1]:1",
            "shop.example",
            "https://a@b.example",
        ] {
            assert!(Passkeys::of(url).is_none(), "{url}");
        }
    }

    #[test]
    fn what_was_not_asked_for_opens_nothing() {
        let passkeys = Passkeys::of("http://localhost:1").expect("a site");
        let asked = passkeys.open().expect("asked");
        assert!(
            asked.contains("\"userVerification\":\"required\"") && asked.contains("\"rpId\":\"localhost\""),
            "{asked}"
        );
        let asked = passkeys.add(&[7; 64], ("Staff One", "staff.one@shop.example"), &[]).expect("asked");
        assert!(asked.contains("staff.one@shop.example"), "{asked}");
        for answer in ["", "{}", "{\"id\":\"AAAA\"}"] {
            assert!(Passkeys::read(answer.as_bytes()).is_err());
            assert!(passkeys.added(&[7; 64], (answer.as_bytes(), "x", 0)).is_err());
        }
    }
}
