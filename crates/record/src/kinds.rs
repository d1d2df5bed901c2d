//! The catalogue: every kind and version this deployment knows.

use std::collections::HashMap;

use crate::error::{Refusal, SchemaError};
use crate::schema::{Authority, Kind};

macro_rules! shipped {
    ($($name:literal $($version:literal)?),* $(,)?) => {
        &[$(include_str!(concat!("../kinds/", $name, shipped!(@ $($version)?), ".json"))),*]
    };
    (@) => { ".1" };
    (@ $version:literal) => { concat!(".", $version) };
}

/// The schemas in the binary. A schema never changes once published: a change is a new version beside it.
const SHIPPED: &[&str] = shipped![
    "NOTIF_CREATED",
    "NOTIF_ROUTED",
    "EMAIL_SEND_ATTEMPT",
    "EMAIL_SENT",
    "EMAIL_DELIVERY_STATUS",
    "ACTION_TOKEN_ISSUED",
    "ACTION_LINK_CLICKED",
    "ACTION_AUTH_SUCCESS",
    "ACTION_AUTH_FAIL",
    "APPROVAL_DECISION_APPROVED",
    "APPROVAL_DECISION_REJECTED",
    "TOKEN_EXPIRED",
    "TOKEN_REPLAY_BLOCKED",
    "NOTIF_FAILED",
    "EMAIL_DELIVERED",
    "EMAIL_OPENED",
    "EMAIL_CLICKED",
    "EMAIL_BOUNCED",
    "EMAIL_FAILED",
    "EMAIL_RECEIVED",
    "EMAIL_COMPLAINED",
    "EMAIL_UNSUBSCRIBED",
    "TEMPLATE_CREATED",
    "TEMPLATE_CHANGED",
    "TEMPLATE_APPROVED",
    "TEMPLATE_REJECTED",
    "TEMPLATE_REVIEWED",
    "TRAIL_OPENED",
    "KIND_DEFINED",
    "WRITER_STARTED",
    "HEARTBEAT",
    "CLOCK_CORRECTED",
    "CLOCK_UNSYNCED",
    "CONFIG_CHANGED",
    "SOURCE_CHANGED",
    "VERIFICATION_RUN",
    "KEYS_REWRAPPED",
    "LOG_KEY_CHANGED",
    "VIEW_REBUILT",
    "BACKUP_MADE",
    "BACKUP_EXPIRED",
    "PERIOD_ENDED",
    "HOLD_PLACED",
    "HOLD_RELEASED",
    "SUBJECT_ERASED",
    "ERASURE_COMPLETED",
    "SUBJECT_LINKED",
    "SUBJECT_UNLINKED",
    "ACCESS",
    "SUBJECT_SEEN",
    "INPUT_REFUSED",
    "INPUT_CONFLICT",
    "INGEST_GAP",
    "API_KEY_CREATED",
    "API_KEY_REVOKED",
    "API_KEY_USED",
    // Attempt, next queue and marks of what is read from a relay's log.
    "NOTIF_ROUTED" 2,
    "EMAIL_SEND_ATTEMPT" 2,
    "EMAIL_SENT" 2,
    "EMAIL_DELIVERY_STATUS" 2,
    "NOTIF_FAILED" 2,
    // What a business does for its customers beside mail (document 1).
    "TICKET_OPENED",
    "TICKET_CHANGED",
    "TICKET_STATUS_CHANGED",
    "TICKET_COMMUNICATION",
    "TICKET_RESOLVED",
    "TICKET_RATED",
    "CALL_STARTED",
    "CALL_ENDED",
    "CALL_LOGGED",
    "CALL_FOLLOWED_UP",
    "MESSAGE_SENT",
    "MESSAGE_DELIVERED",
    "MESSAGE_READ",
    "MESSAGE_FAILED",
    "MESSAGE_RECEIVED",
    "MESSAGE_NOTED",
    "ORDER_PLACED",
    "ORDER_CONFIRMED",
    "ORDER_PROCESSED",
    "ORDER_SHIPPED",
    "ORDER_DELIVERED",
    "ORDER_CANCELLED",
    "ORDER_RETURNED",
    "ORDER_CHANGED",
    "ORDER_PAYMENT",
    "ORDER_COMMUNICATION",
    "SESSION_STARTED",
    "SESSION_ENDED",
    "SESSION_ACTIVITY",
    "SESSION_SECURITY_EVENT",
    "DATA_MODIFIED",
    "DATA_CHANGE_DECIDED",
    "DATA_ACCESSED",
    "REQUEST_RECEIVED",
    "REQUEST_VERIFIED",
    "REQUEST_EXTENDED",
    "REQUEST_COMPLETED",
    "REQUEST_REFUSED",
    "REQUEST_WITHDRAWN",
    "REQUEST_NOTED",
    "CONSENT_ASKED",
    "CONSENT_GIVEN",
    "CONSENT_REFUSED",
    "CONSENT_WITHDRAWN",
    "CONSENT_EXPIRED",
    "CONSENT_OBJECTED",
    "BREACH_DISCOVERED",
    "BREACH_CHANGED",
    "BREACH_REGULATOR_NOTIFIED",
    "BREACH_CUSTOMERS_NOTIFIED",
    "BREACH_REMEDIATED",
    "BREACH_CLOSED",
    "SYSTEM_EVENT",
    "ALERT_RAISED",
    "ALERT_ACKNOWLEDGED",
    "ALERT_RESOLVED",
    "COMPLETENESS",
    "SIGHTINGS",
    "QUEUE_OBSERVED",
    // The template's version, who opened, the consent that a mail rests on.
    "EMAIL_SENT" 3,
    "EMAIL_DELIVERED" 2,
    "EMAIL_OPENED" 2,
    "EMAIL_CLICKED" 2,
    "EMAIL_BOUNCED" 2,
    "EMAIL_FAILED" 2,
    "EMAIL_COMPLAINED" 2,
    "EMAIL_UNSUBSCRIBED" 2,
    // Who wrote to the business is the person that it is about.
    "EMAIL_RECEIVED" 2,
    "IMPORT_MADE",
    "INPUT_QUARANTINED",
    "QUARANTINE_REPLAYED",
    // Roles: of who reads, of keys; the policies by which is decided.
    "ACCESS" 2,
    "API_KEY_CREATED" 2,
    "POLICY_CHANGED",
    // People of this trail and their roles.
    "USER_INVITED",
    "USER_CHANGED",
    // Leave to read, and the grants that a read rests on; as what somebody saw a person.
    "GRANT_GIVEN",
    "GRANT_REVOKED",
    "ACCESS" 3,
    "SUBJECT_SEEN" 2,
    "SIGN_IN_LINK",
    // Looking into what somebody read.
    "CASE_OPENED",
    "CASE_NOTED",
    "CASE_CLOSED",
    "REVIEW_DUE",
    "REVIEW_SIGNED",
    // What waits for a second person.
    "CHANGE_PROPOSED",
    "CHANGE_DECIDED",
    "USER_CHANGED" 2,
    // Settings in files, and that they wait.
    "SETTINGS_CHANGED",
    "CHANGE_PROPOSED" 2,
    // Under what views were made again, and that they are about to be.
    "VIEW_REBUILT" 2,
    // How much ended, what of it is held, and by which rule.
    "PERIOD_ENDED" 2,
    // Who changed it.
    "LOG_KEY_CHANGED" 2,
    // That a backup became the trail again.
    "BACKUP_RESTORED",
];

/// Kinds in a catalogue, at most: a frame numbers them in 16 bits, and nobody can read more.
pub const KINDS_MAX: usize = 4096;

/// A kind's place in the catalogue of this process. Never written to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KindId(pub u16);

/// All kinds by name and version.
#[derive(Debug)]
pub struct Catalogue {
    kinds: Vec<Kind>,
    newest: HashMap<String, KindId>,
}

impl Catalogue {
    /// The shipped kinds.
    ///
    /// # Errors
    /// None for the schemas in the binary; a test says so.
    pub fn shipped() -> Result<Catalogue, SchemaError> {
        let mut catalogue = Catalogue { kinds: Vec::new(), newest: HashMap::new() };
        for schema in SHIPPED {
            catalogue.add(schema)?;
        }
        Ok(catalogue)
    }

    /// Adds a kind from its schema, as a deployment's folder gives it.
    ///
    /// # Errors
    /// The schema is not of the subset, the kind and version exist already, or there are too many.
    pub fn add(&mut self, schema: &str) -> Result<KindId, SchemaError> {
        let kind = Kind::compile(schema)?;
        let refuse = |why: &str| Err(SchemaError { kind: kind.name.clone(), at: "/".into(), why: why.to_owned() });
        if self.kinds.len() == KINDS_MAX {
            return refuse("more than 4096 kinds");
        }
        if self.find(&kind.name, kind.version).is_some() {
            return refuse("this version exists already: publish a change as a new version");
        }
        let id = KindId(self.kinds.len() as u16);
        let newer = self.newest.get(&kind.name).is_none_or(|held| self.kind(*held).version < kind.version);
        if newer {
            self.newest.insert(kind.name.clone(), id);
        }
        self.kinds.push(kind);
        Ok(id)
    }

    /// A kind by its place.
    pub fn kind(&self, id: KindId) -> &Kind {
        &self.kinds[usize::from(id.0)]
    }

    /// The newest version of a kind.
    pub fn newest(&self, name: &str) -> Option<KindId> {
        self.newest.get(name).copied()
    }

    /// One version of a kind.
    pub fn find(&self, name: &str, version: u16) -> Option<KindId> {
        self.kinds.iter().position(|kind| kind.name == name && kind.version == version).map(|at| KindId(at as u16))
    }

    /// All kinds in the order they were added.
    pub fn all(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.iter()
    }

    /// The newest version of each kind, in the order they were added.
    pub fn current(&self) -> impl Iterator<Item = &Kind> {
        let newest = |kind: &&Kind| self.newest(&kind.name).is_some_and(|id| self.kind(id).version == kind.version);
        self.kinds.iter().filter(newest)
    }

    /// The newest version of a kind that `authority` may make.
    ///
    /// # Errors
    /// No such kind, or another authority is needed.
    pub fn for_authority(&self, name: &str, authority: Authority) -> Result<KindId, Refusal> {
        let Some(id) = self.newest(name) else {
            let (shown, nearest) = if proof::entry::is_kind_name(name) {
                (name.to_owned(), nearest(name, self.newest.keys().map(String::as_str)))
            } else {
                (format!("a kind name of {} bytes", name.len()), None)
            };
            return Err(Refusal::UnknownKind { shown, nearest });
        };
        let kind = self.kind(id);
        if !kind.authorities.contains(&authority) {
            let authority = kind.authorities.first().map_or("candor", |first| first.name());
            return Err(Refusal::NotForSources { kind: kind.name.clone(), authority });
        }
        Ok(id)
    }
}

/// The candidate with the smallest edit distance to `name`, if it is near enough to help.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(name.len()) / 3)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// Levenshtein distance of the first 64 bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b) = (&a.as_bytes()[..a.len().min(64)], &b.as_bytes()[..b.len().min(64)]);
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let change = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_kind_compiles_and_both_documents_kinds_are_there() {
        let catalogue = Catalogue::shipped().expect("the shipped schemas are of the subset");
        for name in ["NOTIF_CREATED", "TOKEN_REPLAY_BLOCKED", "EMAIL_OPENED", "TEMPLATE_REVIEWED", "SUBJECT_ERASED"] {
            assert!(catalogue.newest(name).is_some(), "{name}");
        }
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/kinds")).expect("the folder");
        assert_eq!(folder.count(), catalogue.all().count());
    }

    #[test]
    fn a_kind_outside_the_subset_is_refused_with_its_place() {
        let schema = |extra: &str| {
            format!(
                r#"{{"x-kind":"K","x-version":1,"x-class":"trail","x-authority":["source"],"type":"object","additionalProperties":false,"required":["a"],"properties":{{"a":{{"type":"string","x-number":2,"x-field-class":"fact"{extra}}}}}}}"#
            )
        };
        let mut catalogue = Catalogue::shipped().expect("shipped");
        catalogue.add(&schema("")).expect("the plain one is fine");
        assert!(catalogue.add(&schema("")).is_err(), "the same version twice");
        for extra in
            [r#","format":"email""#, r#","$ref":"x""#, r#","pattern":"a""#, r#","x-names":"address""#, r#","oneOf":[]"#]
        {
            let error = Catalogue::shipped().expect("shipped").add(&schema(extra)).expect_err(extra);
            assert!(error.at.starts_with("/properties/a/"), "{error}");
        }
    }

    #[test]
    fn a_near_name_is_offered() {
        let catalogue = Catalogue::shipped().expect("shipped");
        let error = catalogue.for_authority("EMAIL_SEND", Authority::Source).expect_err("no such kind");
        assert!(error.to_string().contains("EMAIL_SENT"), "{error}");
        let error = catalogue.for_authority("hunter2 hunter2", Authority::Source).expect_err("no such kind");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(catalogue.for_authority("ACCESS", Authority::Source).is_err());
    }
}
