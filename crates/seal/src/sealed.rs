//! The sealed record (`docs/formats/sealed.md`): two bodies, each committed to and encrypted under its own key.

use std::cell::RefCell;

use proof::commitment::{BODY_BYTES_MAX, Field, Opening, Salt, commit, field_digest, parse_body, write_body};
use proof::entry::EntryId;
use proof::hash::{Hash, sha256};

use crate::crypto::{Key, KeyedHash, TAG_BYTES, decrypt, encrypt, expand, extract, salts};
use crate::error::Error;
use crate::tag::Tagger;

/// Format version.
const VERSION: u8 = 1;
/// AES-256-GCM, HKDF-SHA-256, zstd.
const SUITE: u8 = 1;
/// version, suite, dictionary, period key id, nonce.
pub const HEADER_BYTES: usize = 23;
/// Compression level: 1 costs a third of 3 and gives nine tenths of it on bodies of this size.
const LEVEL: i32 = 1;

/// Compression dictionaries by id; id 0 is none. They are trained on synthetic texts (`cargo xtask dictionary`) and
/// never removed, since a sealed record names the one it needs.
const DICTIONARIES: &[&[u8]] = &[&[], include_bytes!("../dictionaries/1.zdict")];
/// The dictionary that new records use.
const DICTIONARY: u8 = 1;

/// Which of a record's two bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What the business did.
    Facts,
    /// What is about the data subject.
    Personal,
}

impl Role {
    fn name(self) -> &'static [u8] {
        match self {
            Role::Facts => b"facts",
            Role::Personal => b"personal",
        }
    }
}

/// A record that only its keys can open; what the ledger orders.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// Its id.
    pub id: EntryId,
    /// The sealed bytes.
    pub bytes: Vec<u8>,
    /// H(sealed bytes).
    pub digest: Hash,
    /// Commitment to the facts.
    pub facts: Hash,
    /// Commitment to the personal body and the tagger of its subject, where there is one.
    pub personal: Option<(Hash, Tagger)>,
    /// The period key it was sealed under.
    pub period: u32,
}

/// What sealing needs to know.
pub struct SealingKeys<'a> {
    /// Name of the trail.
    pub origin: &'a str,
    /// Id and key of the period.
    pub period: (u32, &'a Key),
    /// Sealing key and tagger of the subject, where there is one.
    pub subject: Option<(&'a Key, Tagger)>,
    /// 16 fresh random bytes.
    pub nonce: [u8; 16],
}

struct Compression {
    compressor: zstd::bulk::Compressor<'static>,
    decompressors: Vec<Option<zstd::bulk::Decompressor<'static>>>,
    body: Vec<u8>,
}

thread_local! {
    // A zstd context is 100 KiB and worth keeping; contexts can't be shared between threads.
    static COMPRESSION: RefCell<Compression> = RefCell::new(Compression {
        compressor: compressor(),
        decompressors: DICTIONARIES.iter().map(|_| None).collect(),
        body: Vec::new(),
    });
}

fn compressor() -> zstd::bulk::Compressor<'static> {
    let dictionary = DICTIONARIES[usize::from(DICTIONARY)];
    let mut compressor =
        zstd::bulk::Compressor::with_dictionary(LEVEL, dictionary).expect("the shipped dictionary loads");
    // The id of the dictionary stands in our header; every byte saved counts.
    compressor.include_dictid(false).expect("zstd knows this parameter");
    compressor.include_checksum(false).expect("zstd knows this parameter");
    compressor
}

/// `salted` is the keyed hash under the record's nonce, which both of its bodies share.
fn content_key(salted: &KeyedHash, period: &Key, subject: Option<&Key>, role: Role) -> Key {
    let prk = extract(salted, &[&period.0, subject.map_or(&[], |key| &key.0)]);
    expand(&KeyedHash::new(&prk.0), [b"candor/v1/content\n", role.name()])
}

fn aad(origin: &str, id: &EntryId, role: Role, header: &[u8]) -> Vec<u8> {
    [origin.as_bytes(), &id.0, role.name(), header].concat()
}

/// Length after padding: a multiple of 32; above 1 KiB that of Padme (Nikitin and others, 2019), which leaves at most
/// the top bits of a length.
fn padded(length: usize) -> usize {
    if length <= 1024 {
        return length.div_ceil(32) * 32;
    }
    let exponent = usize::BITS - 1 - length.leading_zeros();
    let low_bits = exponent - (u32::BITS - exponent.leading_zeros());
    let mask = (1usize << low_bits) - 1;
    (length + mask) & !mask
}

/// Seals a record. Bodies are given as fields in the order of their numbers.
///
/// # Errors
/// A body is over a limit of its format.
pub fn seal(keys: &SealingKeys<'_>, id: EntryId, facts: &[Field<'_>], personal: &[Field<'_>]) -> Result<Sealed, Error> {
    let mut bytes = Vec::with_capacity(640);
    bytes.extend_from_slice(&[VERSION, SUITE, DICTIONARY]);
    bytes.extend_from_slice(&keys.period.0.to_be_bytes());
    bytes.extend_from_slice(&keys.nonce);
    let salted = KeyedHash::new(&keys.nonce);
    let facts = seal_body(keys, &id, &salted, (Role::Facts, facts), &mut bytes)?;
    let personal = match &keys.subject {
        Some((_, tagger)) if !personal.is_empty() => {
            Some((seal_body(keys, &id, &salted, (Role::Personal, personal), &mut bytes)?, tagger.clone()))
        }
        _ => {
            assert!(personal.is_empty(), "a personal body needs a subject");
            bytes.extend_from_slice(&0u32.to_be_bytes());
            None
        }
    };
    let digest = sha256(&bytes);
    Ok(Sealed { id, bytes, digest, facts, personal, period: keys.period.0 })
}

fn seal_body(
    keys: &SealingKeys<'_>,
    id: &EntryId,
    salted: &KeyedHash,
    body: (Role, &[Field<'_>]),
    out: &mut Vec<u8>,
) -> Result<Hash, Error> {
    let (role, fields) = body;
    let subject = if role == Role::Personal { keys.subject.as_ref().map(|(key, _)| *key) } else { None };
    let content = KeyedHash::new(&content_key(salted, keys.period.1, subject, role).0);
    let salts = salts(&content, fields.len());
    let mut digests = [Hash::default(); proof::commitment::FIELDS_MAX];
    if fields.len() > digests.len() {
        let (got, limit) = (fields.len() as u64, digests.len() as u64);
        return Err(proof::error::Error::Limit { what: "body fields", got, limit }.into());
    }
    for ((digest, field), salt) in digests.iter_mut().zip(fields).zip(&salts) {
        *digest = field_digest(salt, *field);
    }
    let commitment = commit(&digests[..fields.len()]);
    let box_key = expand(&content, [b"candor/v1/box\n", b""]);
    COMPRESSION.with_borrow_mut(|held| {
        held.body.clear();
        write_body(&mut held.body, fields)?;
        if held.body.len() > BODY_BYTES_MAX {
            let (got, limit) = (held.body.len() as u64, BODY_BYTES_MAX as u64);
            return Err(Error::from(proof::error::Error::Limit { what: "body", got, limit }));
        }
        let aad = aad(keys.origin, id, role, &out[..HEADER_BYTES]);
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        let start = out.len();
        out.resize(start + zstd::zstd_safe::compress_bound(held.body.len()), 0);
        let written = held
            .compressor
            .compress_to_buffer(&held.body, &mut out[start..])
            .map_err(|source| Error::Io { action: "compress", what: "body", source })?;
        out.truncate(start + written);
        out.resize(start + padded(written), 0);
        encrypt(&box_key, [0; 12], &aad, out, start);
        let length = (out.len() - start) as u32;
        out[length_at..start].copy_from_slice(&length.to_be_bytes());
        Ok(())
    })?;
    Ok(commitment)
}

/// A sealed record taken apart, nothing of it opened.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    header: &'a [u8],
    dictionary: u8,
    /// The period key it was sealed under.
    pub period: u32,
    nonce: [u8; 16],
    facts: &'a [u8],
    personal: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Takes a sealed record apart.
    ///
    /// # Errors
    /// Another version or suite, or lengths that do not fit.
    pub fn parse(bytes: &'a [u8]) -> Result<Parts<'a>, Error> {
        let bad = |why| Error::Corrupt { what: "sealed record", why };
        let (header, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or(bad("shorter than its header"))?;
        if header[0] != VERSION || header[1] != SUITE {
            return Err(bad("a version or suite that this program does not know"));
        }
        if usize::from(header[2]) >= DICTIONARIES.len() {
            return Err(bad("a dictionary that this program does not know"));
        }
        let take = |bytes: &'a [u8]| -> Option<(&'a [u8], &'a [u8])> {
            let (length, rest) = bytes.split_first_chunk::<4>()?;
            rest.split_at_checked(u32::from_be_bytes(*length) as usize)
        };
        let (facts, rest) = take(rest).ok_or(bad("the facts do not end"))?;
        let (personal, rest) = take(rest).ok_or(bad("the personal body does not end"))?;
        if !rest.is_empty() {
            return Err(bad("bytes after the personal body"));
        }
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&header[7..23]);
        let period = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
        Ok(Parts { header, dictionary: header[2], period, nonce, facts, personal })
    }

    /// Whether there is a personal body.
    pub fn has_personal(&self) -> bool {
        !self.personal.is_empty()
    }

    /// Opens one body and checks it against its commitment.
    ///
    /// # Errors
    /// The keys do not open it, it is no body, or the commitment names another one.
    pub fn open(&self, keys: &OpeningKeys<'_>, role: Role, commitment: &Hash) -> Result<OpenBody, Error> {
        let content = self.content_key(keys, role);
        self.open_held(keys.origin, &keys.id, &content, role, commitment)
    }

    /// The key of one body alone: what a hold keeps of it.
    pub fn content_key(&self, keys: &OpeningKeys<'_>, role: Role) -> Key {
        let subject = if role == Role::Personal { keys.subject } else { None };
        content_key(&KeyedHash::new(&self.nonce), keys.period, subject, role)
    }

    /// Opens one body by its own key, which a hold kept, and checks it against its commitment.
    ///
    /// # Errors
    /// As [`Parts::open`].
    pub fn open_held(
        &self,
        origin: &str,
        id: &EntryId,
        content: &Key,
        role: Role,
        commitment: &Hash,
    ) -> Result<OpenBody, Error> {
        let boxed = match role {
            Role::Facts => self.facts,
            Role::Personal => self.personal,
        };
        if boxed.len() < TAG_BYTES {
            return Err(Error::NotAuthentic { why: "there is no such body" });
        }
        let content = KeyedHash::new(&content.0);
        let box_key = expand(&content, [b"candor/v1/box\n", b""]);
        let mut buffer = boxed.to_vec();
        let aad = aad(origin, id, role, self.header);
        let padded = decrypt(&box_key, [0; 12], &aad, &mut buffer)?;
        let bytes = decompress(padded, self.dictionary)?;
        let fields = parse_body(&bytes)?;
        let salts = salts(&content, fields.len());
        let digests: Vec<Hash> = fields.iter().zip(&salts).map(|(field, salt)| field_digest(salt, *field)).collect();
        if commit(&digests) != *commitment {
            return Err(Error::NotAuthentic { why: "the body is not the one that the entry commits to" });
        }
        Ok(OpenBody { bytes, salts })
    }
}

fn decompress(padded: &[u8], dictionary: u8) -> Result<Vec<u8>, Error> {
    let bad = |why| Error::Corrupt { what: "body", why };
    let length = zstd::zstd_safe::find_frame_compressed_size(padded).map_err(|_| bad("not a zstd frame"))?;
    let (frame, padding) = padded.split_at_checked(length).ok_or(bad("the zstd frame does not end"))?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(bad("padding that is not zero"));
    }
    let size = zstd::zstd_safe::get_frame_content_size(frame).ok().flatten().ok_or(bad("a zstd frame without size"))?;
    if size > BODY_BYTES_MAX as u64 {
        return Err(bad("over the limit of 256 KiB"));
    }
    COMPRESSION.with_borrow_mut(|held| {
        let slot = held.decompressors.get_mut(usize::from(dictionary)).ok_or(bad("an unknown dictionary"))?;
        let failed = |source| Error::Io { action: "decompress", what: "body", source };
        if slot.is_none() {
            let bytes = DICTIONARIES.get(usize::from(dictionary)).copied().unwrap_or_default();
            *slot = Some(zstd::bulk::Decompressor::with_dictionary(bytes).map_err(failed)?);
        }
        match slot {
            Some(decompressor) => decompressor.decompress(frame, size as usize).map_err(failed),
            None => Err(bad("an unknown dictionary")),
        }
    })
}

/// What opening needs to know.
pub struct OpeningKeys<'a> {
    /// Name of the trail.
    pub origin: &'a str,
    /// The entry's id.
    pub id: EntryId,
    /// The period's key.
    pub period: &'a Key,
    /// The subject's sealing key, for the personal body.
    pub subject: Option<&'a Key>,
}

/// An opened body that fits its entry's commitment.
#[derive(Debug, Clone)]
pub struct OpenBody {
    bytes: Vec<u8>,
    salts: Vec<Salt>,
}

impl OpenBody {
    /// The fields.
    pub fn fields(&self) -> Vec<Field<'_>> {
        parse_body(&self.bytes).unwrap_or_default()
    }

    /// An opening that shows the fields that `show` picks.
    pub fn opening(&self, show: impl Fn(u16) -> bool) -> Opening {
        Opening::new(&self.fields(), &self.salts, show)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn period() -> Key {
        Key([1; 32])
    }

    fn field(number: u16, value: &str) -> Field<'_> {
        Field { number, value: value.as_bytes() }
    }

    fn keys<'a>(period: &'a Key, subject: Option<(&'a Key, Tagger)>) -> SealingKeys<'a> {
        SealingKeys { origin: "audit.example/log1", period: (3, period), subject, nonce: [9; 16] }
    }

    #[test]
    fn a_record_opens_to_what_was_sealed_and_under_no_other_key() {
        let (period, subject, other) = (period(), Key([2; 32]), Key([3; 32]));
        let tagger = Tagger::new(1, &other);
        let facts = [field(0, "\"K\""), field(2, "7")];
        let personal = [field(40, "\"Thabo\"")];
        let id = EntryId([5; 16]);
        let sealed = seal(&keys(&period, Some((&subject, tagger))), id, &facts, &personal).expect("it seals");
        let parts = Parts::parse(&sealed.bytes).expect("it parses");
        let open = |id, period: &Key, subject: Option<&Key>, role, commitment: &Hash| {
            parts.open(&OpeningKeys { origin: "audit.example/log1", id, period, subject }, role, commitment)
        };
        let commitment = sealed.personal.as_ref().expect("a subject").0;
        let body = open(id, &period, Some(&subject), Role::Personal, &commitment).expect("it opens");
        assert_eq!(body.fields(), personal);
        assert_eq!(body.opening(|_| true).verify(&commitment).expect("it holds"), vec![(40, "\"Thabo\"")]);
        assert_eq!(open(id, &period, None, Role::Facts, &sealed.facts).expect("it opens").fields(), facts);
        assert!(open(id, &period, Some(&other), Role::Personal, &commitment).is_err());
        assert!(open(id, &other, Some(&subject), Role::Personal, &commitment).is_err());
        assert!(open(EntryId([6; 16]), &period, Some(&subject), Role::Personal, &commitment).is_err());
        assert!(open(id, &period, Some(&subject), Role::Personal, &sealed.facts).is_err());
    }

    /// The ciphertext of `docs/formats/sealed.md` that AES-256-GCM opens under two keys: our opener has a commitment
    /// for each, and refuses both, since what the box holds is no body of that commitment.
    #[test]
    fn the_ciphertext_that_two_keys_open_is_refused_under_both() {
        let ciphertext = proof::encoding::from_hex::<64>(
            b"b6af78128fcbbdd8514aef4a8db79ea1a86cea16e0d7f2c2ddb5bbf5107ec951a16f0141ed5fd5a092e44ae5af326158d9f984835064220131784adfe59e4678",
        )
        .expect("hex");
        for (byte, words, at) in [(0x11, "refund APPROVED.", 0), (0x22, "refund rejected.", 16)] {
            let key = Key([byte; 32]);
            let mut buffer = ciphertext.to_vec();
            let plain = decrypt(&key, [0; 12], b"", &mut buffer).expect("AES-GCM alone is fooled");
            assert_eq!(&plain[at..at + 16], words.as_bytes());
            // In our envelope, under either key as the period key, and against a commitment made for either text.
            let mut bytes = vec![VERSION, SUITE, 0, 0, 0, 0, 3];
            bytes.extend_from_slice(&[9; 16]);
            bytes.extend_from_slice(&64u32.to_be_bytes());
            bytes.extend_from_slice(&ciphertext);
            bytes.extend_from_slice(&[0; 4]);
            let parts = Parts::parse(&bytes).expect("the envelope is well formed");
            let content = KeyedHash::new(&content_key(&KeyedHash::new(&[9; 16]), &key, None, Role::Facts).0);
            let salt = salts(&content, 1);
            let commitment = commit(&[field_digest(&salt[0], field(2, words))]);
            let keys = OpeningKeys { origin: "audit.example/log1", id: EntryId([5; 16]), period: &key, subject: None };
            assert!(parts.open(&keys, Role::Facts, &commitment).is_err());
            // And even the raw bytes that the box would hold are no body of that commitment.
            assert!(decompress(plain, 0).is_err());
        }
    }

    #[test]
    fn lengths_are_padded() {
        assert_eq!([1, 32, 33, 1024].map(padded), [32, 32, 64, 1024]);
        for length in 1025..40_000 {
            assert!(padded(length) >= length && padded(length) <= length + length / 8, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, id: [u8; 16]) {
            let period = period();
            if let Ok(parts) = Parts::parse(&bytes) {
                let keys = OpeningKeys { origin: "o", id: EntryId(id), period: &period, subject: None };
                prop_assert!(parts.open(&keys, Role::Facts, &Hash([0; 32])).is_err());
            }
            let _ = decompress(&bytes, 1);
        }

        #[test]
        fn every_length_round_trips(value in "[ -~]{0,5000}") {
            let period = period();
            let text = format!("\"{}\"", value.replace(['"', '\\'], ""));
            let sealed = seal(&keys(&period, None), EntryId([1; 16]), &[field(2, &text)], &[]).expect("it seals");
            let parts = Parts::parse(&sealed.bytes).expect("it parses");
            let keys = OpeningKeys { origin: "audit.example/log1", id: EntryId([1; 16]), period: &period, subject: None };
            let body = parts.open(&keys, Role::Facts, &sealed.facts).expect("it opens");
            prop_assert_eq!(body.fields(), [field(2, &text)]);
        }
    }
}
