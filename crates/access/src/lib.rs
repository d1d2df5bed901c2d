//! Who may do what: people, API keys, roles, policies.
//!
//! Owns what a key is and when it opens a door, what roles there are, and the decision by policies. Keys are made, rotated
//! and revoked by records of the trail (API_KEY_CREATED, API_KEY_REVOKED); [`api_key::Keyring`] is their fold and holds
//! nothing that the trail does not. So are people, their roles and standing ([`user::Users`]), and grants ([`grant::Grants`]); what they sign in with is in
//! [`store::Store`], which is not in the trail.
//!
//! Invariants:
//! - the trail and the keyring hold a digest of a key's secret, never the secret;
//! - a key does what its scopes name and nothing else: who may append may not read;
//! - what no policy permits is refused.
#![forbid(unsafe_code)]

pub mod api_key;
pub mod backoff;
pub mod breached;
pub mod change;
pub mod grant;
pub mod passkey;
pub mod password;
pub mod place;
pub mod policy;
pub mod role;
pub mod second_factor;
pub mod store;
pub mod user;

/// Whether two secrets are the same; the time it takes says nothing of where they differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    use subtle::ConstantTimeEq as _;
    a.ct_eq(b).into()
}
