//! Quarantine: what was refused is kept for 30 days, sealed, so that it can be taken in once its cause is mended.
//!
//! Kept is what was sent, with secrets cut; input that was refused for holding what may not be kept is not. One line is
//! kept once, and of each source a few in a minute: a client that is broken must not fill the trail.

use access::policy::Action;
use proof::hash::sha256;
use reads::decide::Purpose;
use reads::guard::{Guard, OwnRecord};
use record::detect::{Depth, Detector, cut};
use serde_json::{Value, json};
use web::submit::{NotReplayed, Unavailable};

use crate::intake::{Accepted, Intake, Refused, Worker};

/// Bytes of a line that is kept, at most: with everything escaped it still fits a record.
pub const LINE_BYTES_MAX: usize = 20 << 10;
/// Lines of one source that are kept in a minute.
pub const LINES_A_MINUTE: u32 = 20;
/// Which program read it.
pub const SOFTWARE: &str = concat!("candor/", env!("CARGO_PKG_VERSION"));

/// The record that keeps a refused line; `None` where it is not to be kept.
pub fn record(source: &str, line: &[u8], refused: &Refused, detector: &Detector) -> Option<OwnRecord> {
    let code = refused.refusal.code();
    if code == "forbidden" || line.is_empty() || line.len() > LINE_BYTES_MAX {
        return None;
    }
    let (input, encoding, cuts) = match std::str::from_utf8(line) {
        Ok(text) if !text.contains('\0') => {
            let found = detector.scan(text, Depth::Full);
            (cut(text, &found), "text", found.len())
        }
        // A record holds no NUL and no bytes. Where in them a secret stands can't be told: nothing of it is kept then.
        _ => {
            if !detector.scan(&String::from_utf8_lossy(line), Depth::Full).is_empty() {
                return None;
            }
            (proof::encoding::base64(line), "base64", 0)
        }
    };
    let digest = sha256(line).hex();
    let mut fields = json!({
        "event_id": id(source, &digest), "from_source": source, "code": code, "software": SOFTWARE, "input": input,
        "encoding": encoding, "input_sha256": digest, "size_bytes": line.len(), "cut": cuts,
    });
    if let Some(kind) = &refused.kind {
        fields["kind_name"] = kind.as_ref().into();
    }
    if let Some(rule) = refused.refusal.rule() {
        fields["rule"] = rule.into();
    }
    Some(OwnRecord { kind: "INPUT_QUARANTINED", fields, subject: None })
}

/// The id under which a line of a source is kept.
fn id(source: &str, digest: &str) -> String {
    format!("quarantine/{}", sha256(format!("{source}\n{digest}").as_bytes()).hex())
}

/// What was sent, as far as it was kept.
pub fn line_of(facts: &Value) -> Option<Vec<u8>> {
    let input = facts["input"].as_str()?;
    match facts["encoding"].as_str()? {
        "base64" => proof::encoding::from_base64(input).ok(),
        _ => Some(input.as_bytes().to_vec()),
    }
}

/// Takes in again what is kept in an entry, as if its source sent it now: it adds records and alters none. What became
/// of it is recorded (QUARANTINE_REPLAYED) and given, with a sentence where it was refused again.
pub fn replay(guard: &Guard, intake: &Intake, purpose: &Purpose, entry: u64) -> Result<Value, NotReplayed> {
    let now = |why: anyhow::Error| NotReplayed::Unavailable(Unavailable::Now(format!("{why:#}")));
    guard.may(purpose, Action::ReplayQuarantined, None).map_err(NotReplayed::NotRead)?;
    let shown = guard.quarantined_entry(purpose, entry).map_err(NotReplayed::NotRead)?.into_inner();
    if shown.kind != "INPUT_QUARANTINED" {
        return Err(NotReplayed::NotKept("the entry is no refused input"));
    }
    let gone = NotReplayed::NotKept("what was sent is not there any more");
    let line = line_of(&shown.record).ok_or(gone)?;
    let source = shown.record["from_source"].as_str().unwrap_or_default();
    intake.recipients(source).map_err(|_| NotReplayed::Unavailable(Unavailable::NoSource))?;
    // Refused again it stays where it is: with its secrets cut it would be kept as another line.
    let mut worker = Worker::default();
    worker.kept_already = true;
    let answers = intake.lines(&mut worker, source, &[(1, &line)]).map_err(now)?;
    let mut fields = json!({"entry": entry, "software": SOFTWARE, "actor": purpose.actor});
    let mut said = Value::Null;
    let (outcome, new) = match answers.into_iter().next() {
        Some((_, Ok(Accepted::Committed { index, .. }))) => ("accepted", Some(index)),
        Some((_, Ok(Accepted::Repeated { index, .. }))) => ("repeated", Some(index)),
        Some((_, Ok(Accepted::Conflict { index }))) => ("conflict", Some(index)),
        Some((_, Err(refused))) => {
            fields["code"] = refused.refusal.code().into();
            said = refused.refusal.to_string().into();
            ("refused", None)
        }
        None => return Err(NotReplayed::NotKept("what was sent is empty")),
    };
    fields["outcome"] = outcome.into();
    if let Some(new) = new {
        fields["new_entry"] = new.into();
    }
    intake.own_one("QUARANTINE_REPLAYED", fields.clone()).map_err(now)?;
    fields["why"] = said;
    Ok(fields)
}
