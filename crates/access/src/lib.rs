//! Who may call: API keys, their scopes and their life.
//!
//! Owns what a key is and when it opens a door. Keys are made, rotated and revoked by records of the trail
//! (API_KEY_CREATED, API_KEY_REVOKED); [`api_key::Keyring`] is their fold and holds nothing that the trail does not. People,
//! sessions, roles and policies are not here yet.
//!
//! Invariants:
//! - the trail and the keyring hold a digest of a key's secret, never the secret;
//! - a key does what its scopes name and nothing else: who may append may not read.
#![forbid(unsafe_code)]

pub mod api_key;
