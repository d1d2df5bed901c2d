//! The description of the API (OpenAPI 3.1), made from the kinds and limits of this deployment.

use access::role::Role;
use record::by_hand::{Direction, What};
use record::kinds::Catalogue;
use record::schema::Authority;
use record::things::{SHAPES, Shape};
use serde_json::{Map, Value, json};

use crate::app::Limits;
use crate::registers::THING_ID_MAX;

/// What a time may look like here: a part of RFC 3339 that every reader agrees on.
const TIME: &str = r"^(19[7-9][0-9]|20[0-9]{2})-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,3})?Z$";
/// Text of one line that says something.
const LINE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";
/// Text without NUL, as every string of a record must be.
const NO_NUL: &str = r"^[^\u0000]*$";

fn problem(description: &str) -> Value {
    let content = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
    json!({"description": description, "content": content})
}

/// A busy answer: it says when to come again.
fn busy(description: &str) -> Value {
    let mut answer = problem(description);
    answer["headers"] =
        json!({"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 0}}});
    answer
}

/// Answers that a path with a key can give beside its own.
fn answers(own: Value, more: &[(&str, &str)]) -> Value {
    let mut all = Map::new();
    if let Value::Object(own) = own {
        all.extend(own);
    }
    let common = [
        ("401", "no key, or none that opens"),
        ("403", "the key has not the scope, or the read was refused"),
        ("500", "something failed here"),
    ];
    for (status, description) in common.iter().chain(more) {
        all.insert((*status).to_owned(), problem(description));
    }
    all.insert("503".into(), busy("too much at once, or the writer can't: nothing was done"));
    Value::Object(all)
}

fn json_answer(description: &str, schema: Value) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn query(name: &str, description: &str, schema: Value) -> Value {
    json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema})
}

fn path(name: &str, description: &str, schema: Value) -> Value {
    json!({"name": name, "in": "path", "required": true, "description": description, "schema": schema})
}

fn index() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991u64})
}

fn plain_text(chars_max: u32) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": chars_max, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"})
}

fn why() -> Vec<Value> {
    vec![
        query(
            "purpose",
            "purpose of the read; it stands in the trail",
            json!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_.:/+-]+$"}),
        ),
        query("justification", "case number or reason; it stands in the trail", plain_text(500)),
    ]
}

/// The schema of one kind, as a source may send it.
fn record_schema(schema: &str) -> Option<Value> {
    let mut schema: Value = serde_json::from_str(schema).ok()?;
    trim(&mut schema);
    Some(schema)
}

/// Takes out what Candor sets and what is for Candor alone, and says what a time is.
fn trim(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    let form = map.get("x-form").and_then(Value::as_str).map(str::to_owned);
    if map.get("x-map") == Some(&json!(true)) {
        *schema = json!({"type": "object", "propertyNames": {"pattern": NO_NUL}, "additionalProperties": {
            "type": ["string", "number", "boolean", "null"], "pattern": NO_NUL, "minimum": -1e15, "maximum": 1e15,
        }});
        return;
    }
    map.retain(|name, _| !name.starts_with("x-"));
    if form.as_deref() == Some("time") {
        *schema = json!({"type": "string", "pattern": TIME});
        return;
    }
    if map.get("type") == Some(&json!("string"))
        && !map.contains_key("pattern")
        && !map.contains_key("enum")
        && !map.contains_key("const")
    {
        map.insert("pattern".into(), NO_NUL.into());
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.retain(|_, property| property.get("x-set-by").is_none());
        properties.values_mut().for_each(trim);
    }
    if let Some(items) = map.get_mut("items") {
        trim(items);
    }
}

fn schemas(catalogue: &Catalogue) -> Map<String, Value> {
    let mut all = Map::new();
    let mut kinds = Vec::new();
    for kind in catalogue.all().filter(|kind| kind.authorities.contains(&Authority::Source)) {
        let newest = catalogue.newest(&kind.name).is_some_and(|id| catalogue.kind(id).version == kind.version);
        if let (true, Some(schema)) = (newest, record_schema(&kind.schema)) {
            let name = format!("Record_{}", kind.name);
            kinds.push(reference(&name));
            all.insert(name, schema);
        }
    }
    all.insert("Record".into(), json!({"oneOf": kinds}));
    let text = || json!({"type": "string"});
    all.insert(
        "Problem".into(),
        json!({"type": "object", "description": "RFC 9457", "required": ["type", "title", "status", "detail", "request_id"], "properties": {
            "type": text(), "title": text(), "status": {"type": "integer"}, "detail": text(), "request_id": text(),
            "code": text(), "index": index(), "action": text(), "rules": {"type": "array", "items": text()},
            "instead": {"type": "array", "items": text()}, "roles": {"type": "array", "items": text()},
        }}),
    );
    let status = json!({"type": "string", "enum": ["committed", "repeated", "conflict", "refused"]});
    all.insert(
        "LineResult".into(),
        json!({"type": "object", "required": ["line", "status"], "properties": {
            "line": {"type": "integer", "minimum": 1}, "status": status, "index": index(), "leaf": text(), "code": text(), "detail": text(),
        }}),
    );
    all.insert(
        "BatchResult".into(),
        json!({"type": "object", "required": ["accepted", "repeated", "refused", "tree_size", "results"], "properties": {
            "accepted": index(), "repeated": index(), "refused": index(), "tree_size": index(),
            "results": {"type": "array", "items": reference("LineResult")},
        }}),
    );
    all.insert(
        "Committed".into(),
        json!({"type": "object", "required": ["status", "index", "tree_size"], "properties": {
            "status": {"type": "string", "enum": ["committed", "repeated"]}, "index": index(), "leaf": text(), "tree_size": index(),
        }}),
    );
    all.insert(
        "Entry".into(),
        json!({"type": "object", "required": ["index", "at", "kind", "class", "leaf", "personal", "record"], "properties": {
            "index": index(), "at": text(), "kind": text(), "class": text(), "leaf": text(), "access": index(),
            "personal": {"type": "string", "enum": ["shown", "none", "erased", "ended"]}, "imported": {"type": "boolean"}, "clock": {"type": "object"}, "record": {"type": "object"},
        }}),
    );
    all.insert(
        "Entries".into(),
        json!({"type": "object", "required": ["entries", "access", "tree_size"], "properties": {
            "entries": {"type": "array", "items": reference("Entry")}, "access": index(), "tree_size": index(),
            "next": {"type": ["string", "null"]},
        }}),
    );
    all.insert(
        "Counts".into(),
        json!({"type": "object", "required": ["counts", "total", "access", "tree_size"], "properties": {
            "counts": {"type": "object", "additionalProperties": index()}, "total": index(), "access": index(), "tree_size": index(),
            "suppressed": index(), "rounded_to": {"type": ["integer", "null"]},
        }}),
    );
    let time = || json!({"type": ["string", "null"]});
    all.insert(
        "Key".into(),
        json!({"type": "object", "required": ["id", "scopes", "sources", "active"], "properties": {
            "id": text(), "scopes": {"type": "array", "items": text()}, "roles": {"type": "array", "items": text()}, "sources": {"type": "array", "items": text()},
            "label": {"type": ["string", "null"]}, "expires": time(), "revoked": time(), "last_used": time(),
            "active": {"type": "boolean"}, "key": text(),
        }}),
    );
    all
}

fn records(limits: &Limits, sources: &[String]) -> Value {
    let body = json!({"required": true, "content": {
        "application/json": {"schema": reference("Record")},
        "application/x-ndjson": {"schema": {"type": "string", "description": "one record a line"}},
    }});
    let own = json!({
        "200": json_answer("a repeat; of lines, what became of each", json!({"anyOf": [reference("Committed"), reference("BatchResult")]})),
        "201": json_answer("the record is durable and can be found", reference("Committed")),
        "429": busy("this key has all the writes under way that one may"),
    });
    let more = [
        ("400", "the request does not follow the rules"),
        ("408", "the body came too slowly"),
        ("409", "the id was used before for other content"),
        ("413", "the body, a line or the batch is over its limit"),
        ("415", "another media type or encoding than is taken"),
        ("422", "the record was refused: detail names the field and the limit"),
    ];
    json!({"post": {
        "operationId": "postRecords", "summary": "Write one record, or a batch with one a line",
        "description": format!(
            "A body of at most {} bytes, {} expanded, {} lines. Each line of a batch is answered by itself: nothing good is lost because something beside it was bad. An answer comes when everything in it is durable and can be found. The body may be packed (Content-Encoding gzip or zstd). With an Idempotency-Key, records without an event_id get one of the key and their line: sent again they are repeats, other content under the same key is a conflict.",
            limits.body_bytes_max, limits.expanded_bytes_max, limits.lines_max
        ),
        "parameters": [
            query("source", "the source that is written to; needed where the key is bound to several", json!({"type": "string", "enum": sources})),
            {"name": "Idempotency-Key", "in": "header", "required": false, "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[!-~]+$"}},
        ],
        "requestBody": body, "responses": answers(own, &more),
    }})
}

fn get(id: &str, summary: &str, parameters: Vec<Value>, responses: Value) -> Value {
    json!({"get": {"operationId": id, "summary": summary, "parameters": parameters, "responses": responses}})
}

fn search() -> Value {
    let filter = |name: &str| query(name, "only with this value", plain_text(128));
    let time = |name: &str, description: &str| query(name, description, json!({"type": "string", "pattern": TIME}));
    let mut parameters = vec![
        query("q", "words, all of which must be there", plain_text(500)),
        time("from", "not before this time of the record"),
        time("until", "before this time of the record"),
        query("limit", "entries, at most", json!({"type": "integer", "minimum": 1, "maximum": 200})),
        query(
            "cursor",
            "the next page, as the page before gave it; bound to its query and tree size",
            json!({"type": "string"}),
        ),
        query("min_size", "wait, up to 5 s, until the trail has this size: to find one's own write", index()),
    ];
    parameters.extend(["kind", "status", "source", "template", "severity", "environment"].map(filter));
    parameters.extend(why());
    let own = json!({"200": json_answer("entries, newest first", reference("Entries"))});
    get(
        "search",
        "Find records by words and filters, newest first",
        parameters,
        answers(
            own,
            &[
                ("400", "a parameter is not in its form"),
                ("404", "there is no such cursor"),
                ("409", "the trail has not reached min_size"),
            ],
        ),
    )
}

fn counts() -> Value {
    let filter = |name: &str| query(name, "only with this value", plain_text(128));
    let time = |name: &str, description: &str| query(name, description, json!({"type": "string", "pattern": TIME}));
    let mut parameters = vec![
        query("by", "what is counted by; kind if it is left out", json!({"type": "string", "enum": ["kind", "day"]})),
        query("q", "words, all of which must be there", plain_text(500)),
        time("from", "not before this time of the record"),
        time("until", "before this time of the record"),
    ];
    parameters.extend(["kind", "status", "source", "template", "severity", "environment"].map(filter));
    parameters.extend(why());
    let own = json!({"200": json_answer("counts by kind, or by day (UTC)", reference("Counts"))});
    get(
        "count",
        "Count records by kind or by day",
        parameters,
        answers(own, &[("400", "a parameter is not in its form")]),
    )
}

fn one(id: &str, summary: &str, place: Value, answer: Value) -> Value {
    let mut parameters = vec![place];
    parameters.extend(why());
    let own = json!({"200": answer});
    get(id, summary, parameters, answers(own, &[("400", "a parameter is not in its form"), ("404", "there is none")]))
}

fn keys(sources: &[String]) -> (Value, Value, Value) {
    let label = json!({"type": ["string", "null"], "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_.:/+-]+$"});
    let expires = json!({"type": ["string", "null"], "pattern": TIME});
    let list = |least: usize, most: usize, names: &[&str]| json!({"type": "array", "minItems": least, "maxItems": most, "uniqueItems": true, "items": {"type": "string", "enum": names}});
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    let appends = json!({"type": "object", "additionalProperties": false, "required": ["scopes", "sources"], "properties": {
        "scopes": list(1, 1, &["append"]), "sources": list(1, sources.len().clamp(1, 64), &sources), "label": label, "expires": expires,
    }});
    let roles = list(1, Role::GIVEN.len(), &Role::GIVEN.map(Role::name));
    let reads = json!({"type": "object", "additionalProperties": false, "required": ["scopes", "roles"], "properties": {
        "scopes": {"allOf": [list(1, 4, &["read", "mirror", "operate", "admin"]), {"contains": {"const": "read"}}]},
        "roles": roles, "label": label, "expires": expires,
    }});
    let others = json!({"type": "object", "additionalProperties": false, "required": ["scopes"], "properties": {
        "scopes": list(1, 3, &["mirror", "operate", "admin"]), "label": label, "expires": expires,
    }});
    let make = json!({"oneOf": [appends, reads, others]});
    let body = |schema: Value| json!({"required": true, "content": {"application/json": {"schema": schema}}});
    let more = [
        ("400", "the body does not follow the rules"),
        ("408", "the body came too slowly"),
        ("409", "it can't be done as things stand"),
        ("413", "the body is over its limit"),
        ("415", "another media type"),
    ];
    let waits = json!({"type": "object", "required": ["id", "key", "active", "proposal"], "properties": {
        "id": {"type": "string"}, "key": {"type": "string"}, "active": {"const": false}, "proposal": proposal(),
    }});
    let made = json!({
        "201": json_answer("the key; its text is shown this once", reference("Key")),
        "202": json_answer("the key, which opens nothing before a second person has approved it", waits),
    });
    let listed = json!({"200": json_answer("all keys, without their texts", json!({"type": "object", "required": ["keys"], "properties": {"keys": {"type": "array", "items": reference("Key")}}}))});
    let all = json!({
        "get": {"operationId": "listKeys", "summary": "List the keys", "responses": answers(listed, &[])},
        "post": {"operationId": "createKey", "summary": "Make a key", "description": "A key with the scope append names its sources, which must be in the server's configuration, and has no other scope: who writes may not read. A key with the scope read names the roles in which it reads (docs/policy.md).", "requestBody": body(make), "responses": answers(made.clone(), &more)},
    });
    let id = path("id", "id of the key", json!({"type": "string", "pattern": "^[0-9a-f]{12}$"}));
    let gone = json!({"204": {"description": "it opens nothing any more"}});
    let one = json!({"parameters": [id.clone()], "delete": {"operationId": "revokeKey", "summary": "Revoke a key", "responses": answers(gone, &[("404", "there is none"), ("409", "a key may not revoke itself")])}});
    let overlap = json!({"type": "object", "additionalProperties": false, "properties": {"overlap_s": {"type": "integer", "minimum": 0, "maximum": 7_776_000, "description": "seconds for which the old key goes on"}}});
    let mut more = more.to_vec();
    more.push(("404", "there is none"));
    let rotate = json!({"parameters": [id], "post": {"operationId": "rotateKey", "summary": "Replace a key, the old one going on for a while", "requestBody": body(overlap), "responses": answers(made, &more)}});
    (all, one, rotate)
}

/// A change that waits for a second person.
fn proposal() -> Value {
    json!({
        "type": "object", "required": ["proposal_id", "change_kind", "entry", "waits_until", "record"],
        "description": "decided by a person at /changes (docs/people.md)",
        "properties": {
            "proposal_id": {"type": "string"}, "change_kind": {"type": "string"}, "entry": index(),
            "waits_until": {"type": "string"}, "record": {"type": "object", "description": "the fields of the record that it will be, but the personal ones"},
        },
    })
}

/// What is written down by hand.
fn by_hand(sources: &[String]) -> Value {
    let named = |names: Vec<&str>| json!({"type": "string", "enum": names});
    let text = || plain_text(256);
    let body = json!({"type": "object", "additionalProperties": false, "required": ["what", "summary"],
    "anyOf": [{"required": ["customer"]}, {"required": ["address"]}, {"required": ["phone"]}],
    "properties": {
        "what": named(What::NAMES.map(|(name, _)| name).to_vec()), "customer": text(), "address": text(), "phone": text(),
        "direction": named(Direction::NAMES.map(|(name, _)| name).to_vec()), "summary": plain_text(4000),
        "when": {"type": "string", "pattern": TIME, "description": "when it was; now, if it is left out"},
        "staff": text(), "ticket": text(), "order": text(),
        "duration": {"type": "integer", "minimum": 0, "maximum": 4_294_967_295u64, "description": "seconds of a call"},
    }});
    let more = [
        ("400", "the body does not follow the rules, or does not go together"),
        ("408", "the body came too slowly"),
        ("409", "the id was used before for other content"),
        ("413", "the body is over its limit"),
        ("415", "another media type"),
        ("422", "the record was refused: detail names the field and the limit"),
    ];
    let own = json!({
        "201": json_answer("the record is durable and can be found", reference("Committed")),
        "429": busy("this key has all the writes under way that one may"),
    });
    json!({"post": {
        "operationId": "addByHand", "summary": "Write down what was said to a customer outside every system",
        "description": "A chat, letter, talk, call or note, as `candor add` writes it; its author is the key that calls, its time of writing stands beside the time it was. Sent twice it is written twice: to send again in safety, send the record itself with an event_id to /v1/records.",
        "parameters": [query("source", "the source that is written to; needed where the key is bound to several", json!({"type": "string", "enum": sources}))],
        "requestBody": {"required": true, "content": {"application/json": {"schema": body}}},
        "responses": answers(own, &more),
    }})
}

/// What is kept of refused input, and taking it in again.
fn quarantine() -> (Value, Value) {
    let mut parameters = vec![
        query("source", "only of this source", plain_text(128)),
        query("code", "only what was refused for this reason, such as unknown_field", plain_text(128)),
        query("limit", "lines looked at, at most", json!({"type": "integer", "minimum": 1, "maximum": 200})),
        query("cursor", "the next page, as the page before gave it", plain_text(512)),
    ];
    parameters.extend(why());
    let page = json!({"type": "object", "required": ["kept", "next", "access", "tree_size"], "properties": {
        "kept": {"type": "array", "items": {"type": "object"}}, "next": {"type": ["string", "null"]},
        "access": index(), "tree_size": index(),
    }});
    let list = get(
        "listQuarantine",
        "Refused input that is kept, the newest first, without what was sent; needs the scope operate",
        parameters,
        answers(
            json!({"200": json_answer("what is kept", page)}),
            &[("400", "a parameter is not in its form"), ("404", "the cursor is of another query or run")],
        ),
    );
    let outcome = json!({"type": "object", "required": ["entry", "outcome"], "properties": {
        "entry": index(), "outcome": {"type": "string", "enum": ["accepted", "repeated", "conflict", "refused"]},
        "new_entry": index(), "code": {"type": "string"}, "why": {"type": ["string", "null"]},
    }});
    let more = [
        ("400", "the body does not follow the rules"),
        ("404", "there is no such entry"),
        ("408", "the body came too slowly"),
        ("409", "the entry is no refused input, it is not kept any more, or its source is gone"),
        ("413", "the body is over its limit"),
        ("415", "another media type"),
    ];
    let nothing = json!({"type": "object", "additionalProperties": false, "maxProperties": 0});
    let replay = json!({"parameters": [path("entry", "entry of the refused input", index())], "post": {
        "operationId": "replayQuarantined", "summary": "Take refused input in again, as if its source sent it now",
        "description": "Needs the scope operate. It adds records and alters none: what was taken in before is a repeat.",
        "parameters": why(), "requestBody": {"required": true, "content": {"application/json": {"schema": nothing}}},
        "responses": answers(json!({"200": json_answer("what became of it", outcome)}), &more),
    }});
    (list, replay)
}

/// What a mirror says of itself.
fn mirrored() -> Value {
    let body = json!({"type": "object", "additionalProperties": false, "required": ["size", "root"], "properties": {
        "size": index(), "root": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "root of its tree of so many entries"},
    }});
    let taken = json!({"type": "object", "required": ["size"], "properties": {"size": index()}});
    let more = [
        ("400", "the body is not in its form"),
        ("408", "the body came too slowly"),
        ("409", "the trail has another tree here, or fewer entries: that is recorded, and raises an alert"),
        ("413", "the body is over its limit"),
        ("415", "another media type"),
    ];
    json!({"post": {
        "operationId": "tellMirrored", "summary": "Say what a mirror has verified and keeps",
        "description": "Needs the scope mirror. Pages and proofs show it, and where `answer` is \"mirrored\" records are answered once a mirror has them.",
        "requestBody": {"required": true, "content": {"application/json": {"schema": body}}},
        "responses": answers(json!({"200": json_answer("the trail has the same tree", taken)}), &more),
    }})
}

/// Steps of a case.
fn case_step(step: &str, summary: &str) -> Value {
    let note = json!({"type": "string", "minLength": 1, "maxLength": 1000, "pattern": LINE});
    let mut body =
        json!({"type": "object", "additionalProperties": false, "required": ["note"], "properties": {"note": note}});
    if step == "close" {
        body["required"] = json!(["finding", "note"]);
        body["properties"]["finding"] = json!({"type": "string", "enum": reads::cases::FINDINGS});
    }
    let taken = json!({"type": "object", "required": ["case_id", "entry"], "properties": {"case_id": {"type": "string"}, "entry": index()}});
    let more = [
        ("400", "a parameter or the body is not in its form"),
        ("404", "there is none"),
        ("408", "the body came too slowly"),
        ("413", "the body is over its limit"),
        ("415", "another media type"),
    ];
    json!({"parameters": [path("id", "id of the case", plain_text(THING_ID_MAX))], "post": {
        "operationId": format!("{step}Case"), "summary": summary, "parameters": why(),
        "description": "Needs the scope read and a role that looks into cases; nobody into their own.",
        "requestBody": {"required": true, "content": {"application/json": {"schema": body}}},
        "responses": answers(json!({"200": json_answer("it is recorded", taken)}), &more),
    }})
}

/// Leave to read.
fn grants() -> (Value, Value) {
    let time = |description: &str| json!({"type": "string", "pattern": TIME, "description": description});
    let name = json!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_.:/+-]+$"});
    let names = |description: &str| json!({"type": "array", "maxItems": 64, "items": name, "description": description});
    let line = |most: usize| json!({"type": "string", "minLength": 1, "maxLength": most, "pattern": LINE});
    let body = json!({"type": "object", "additionalProperties": false, "required": ["grantee", "expires", "reason"], "properties": {
        "grantee": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": r"^[!-~]+$", "description": "u-... of a person, api-key-... of a key"},
        "kinds": names("kinds of entries; all, if there are none"), "fields": names("fields that are shown; all, if there are none"),
        "customer": line(128), "from": time("entries not before"), "until": time("entries before"),
        "expires": time("until when it lasts, at most 366 days from now"), "reason": line(500), "change_reference": line(128),
    }});
    let grant = json!({"type": "object", "required": ["grant_id", "grantee", "expires", "justification", "actor", "state"], "properties": {
        "grant_id": {"type": "string"}, "grantee": {"type": "string"}, "expires": {"type": "string"}, "actor": {"type": "string"},
        "justification": {"type": "string"}, "state": {"type": "string", "enum": ["holds", "expired", "revoked"]}, "entry": index(),
    }});
    let page = json!({"type": "object", "required": ["grants", "tree_size"], "properties": {
        "grants": {"type": "array", "items": grant.clone()}, "tree_size": index(),
    }});
    let more = [
        ("400", "a parameter or the body is not in its form"),
        ("404", "there is no such customer or grant"),
        ("408", "the body came too slowly"),
        ("413", "the body is over its limit"),
        ("415", "another media type"),
    ];
    let waits = json!({"type": "object", "required": ["proposal"], "properties": {"proposal": proposal()}});
    let unfit = problem("what the body says does not go together, or names nobody");
    let list =
        answers(json!({"200": json_answer("grants: all, for who gives them; else one's own", page)}), &more[..1]);
    let all = json!({
        "get": {"operationId": "listGrants", "summary": "Leave to read that was given", "parameters": why(), "responses": list},
        "post": {
            "operationId": "giveGrant", "summary": "Give somebody leave to read",
            "description": "Needs the scope read and a role that gives grants. Who gives one can't use it.",
            "parameters": why(), "requestBody": {"required": true, "content": {"application/json": {"schema": body}}},
            "responses": answers(json!({"201": json_answer("it holds", grant), "202": json_answer("it waits for a second person", waits), "409": unfit}), &more),
        },
    });
    let reference = json!({"type": "object", "additionalProperties": false, "required": ["change_reference"], "properties": {"change_reference": line(128)}});
    let taken = json!({"type": "object", "required": ["grant_id", "entry"], "properties": {"grant_id": {"type": "string"}, "entry": index()}});
    let revoke = json!({"parameters": [path("id", "id of the grant", plain_text(64))], "post": {
        "operationId": "revokeGrant", "summary": "Take a grant back", "parameters": why(),
        "requestBody": {"required": true, "content": {"application/json": {"schema": reference}}},
        "responses": answers(json!({"200": json_answer("it is over", taken), "409": problem("it was taken back before")}), &more),
    }});
    (all, revoke)
}

/// A step of an alert.
fn alert_step(step: &str, summary: &str) -> Value {
    let token = json!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_.:/+-]+$"});
    let body = json!({"type": "object", "additionalProperties": false, "properties": {"reason_category": token}});
    let taken = json!({"type": "object", "required": ["alert_id", "entry"], "properties": {"alert_id": {"type": "string"}, "entry": index()}});
    let more = [
        ("400", "a parameter or the body is not in its form"),
        ("404", "there is none"),
        ("408", "the body came too slowly"),
        ("413", "the body is over its limit"),
        ("415", "another media type"),
    ];
    let id = path("id", "id of the alert", plain_text(THING_ID_MAX));
    json!({"parameters": [id], "post": {
        "operationId": format!("{step}_alert"), "summary": summary,
        "description": "Needs the scope operate. Asked again it gives the entry of the first time.",
        "requestBody": {"required": true, "content": {"application/json": {"schema": body}}},
        "responses": answers(json!({"200": json_answer("it is recorded", taken)}), &more),
    }})
}

/// A list of a register.
fn things(shape: &Shape) -> Value {
    let flag = |name: &str, description: &str| query(name, description, json!({"type": "boolean"}));
    let column = |name: &str, description: &str| query(name, description, plain_text(128));
    let mut parameters = vec![
        flag("open", "waiting for somebody, or not"),
        flag("overdue", "true: waiting, and its time is over"),
        column("status", "state"),
        column("category", "category, type or purpose"),
        column("priority", "priority"),
        column("staff", "person in charge"),
        column("customer", "the customer's id"),
        query("limit", "things, at most", json!({"type": "integer", "minimum": 1, "maximum": 200})),
        query("cursor", "the next page, as the page before gave it", plain_text(512)),
    ];
    parameters.extend(why());
    let answer = json!({"type": "object", "required": ["register", "things", "next", "access", "tree_size"], "properties": {
        "register": {"type": "string"}, "things": {"type": "array", "items": {"type": "object"}},
        "next": {"type": ["string", "null"]}, "access": index(), "tree_size": index(),
    }});
    let own = json!({"200": json_answer("things, those that began last first", answer)});
    get(
        &format!("list_{}", shape.name),
        &format!("The {} by their state", shape.path),
        parameters,
        answers(own, &[("400", "a parameter is not in its form"), ("404", "the cursor is of another query or run")]),
    )
}

/// The whole description.
pub fn describe(catalogue: &Catalogue, limits: &Limits, sources: &[String], name: &str) -> Value {
    let (all_keys, one_key, rotate) = keys(sources);
    let text = |kind: &str, description: &str| json!({"description": description, "content": {(kind): {"schema": {"type": "string"}}}});
    let open = |id: &str, summary: &str, answer: Value, more: Value| {
        let mut responses = Map::new();
        responses.insert("200".into(), answer);
        if let Value::Object(more) = more {
            responses.extend(more);
        }
        json!({"get": {"operationId": id, "summary": summary, "security": [], "responses": responses}})
    };
    let status = json!({"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}, "tree_size": index()}});
    let checkpoint = json!({"type": "object", "required": ["origin", "vkey", "key_changes", "tree_size", "checkpoint", "mirrors"], "properties": {
        "origin": {"type": "string"}, "vkey": {"type": "string"}, "key_changes": {"type": "array", "items": {"type": "object"}}, "mirrors": {"type": "array", "items": {"type": "object", "required": ["key", "size", "told_at"], "properties": {"key": {"type": "string"}, "size": index(), "told_at": {"type": "string", "format": "date-time"}}}}, "tree_size": index(), "checkpoint": {"type": "string"},
    }});
    let id = |name: &str| path(name, "as the records have it", plain_text(128));
    let tile = answers(
        json!({"200": {"description": "the file", "content": {"text/plain": {"schema": {"type": "string"}}, "application/octet-stream": {"schema": {"type": "string"}}}}}),
        &[("404", "there is no such file")],
    );
    let mut described = json!({
        "openapi": "3.1.0",
        "info": {"title": "Candor", "version": env!("CARGO_PKG_VERSION"), "description": "An audit trail that everyone concerned can check.", "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "security": [{"key": []}],
        "paths": {
            "/v1/records": records(limits, sources),
            "/v1/search": search(),
            "/v1/counts": counts(),
            "/v1/entries/{index}": one("getEntry", "One entry, opened", path("index", "position in the trail", index()), json_answer("the entry", reference("Entry"))),
            "/v1/receipts/{index}": one("getReceipt", "A receipt of one entry, which proves it offline", path("index", "position in the trail", index()), json_answer("the receipt", json!({"type": "object"}))),
            "/v1/customers/{id}/history": one("getCustomerHistory", "Everything about a customer, oldest first", id("id"), json_answer("entries", reference("Entries"))),
            "/v1/correlations/{id}/history": one("getCorrelationHistory", "Everything of a correlation id, oldest first", id("id"), json_answer("entries", reference("Entries"))),
            "/v1/checkpoint": get("getCheckpoint", "The signed state of the trail; it moves at most once a second", vec![], answers(json!({"200": json_answer("the checkpoint", checkpoint)}), &[])),
            "/v1/journal/segments/{number}": get("getSegment", "A piece of the journal, sealed as it lies there, for a mirror; the header candor-segment-closed says whether the segment ends with it", vec![path("number", "segment, from 0", json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})), query("offset", "first byte", index()), query("wait", "seconds to be held on where there is nothing new", json!({"type": "integer", "minimum": 0, "maximum": 5}))], answers(json!({"200": {"description": "the piece", "content": {"application/octet-stream": {"schema": {"type": "string"}}}}}), &[("404", "there is no such segment, or no such byte of it"), ("400", "the offset is not in its form")])),
            "/v1/keys": all_keys,
            "/v1/keys/{id}": one_key,
            "/v1/keys/{id}/rotate": rotate,
            "/trail/{name}/{path}": get("getPublished", "Files of c2sp.org/tlog-tiles: checkpoint, tile/..., tile/entries/...", vec![path("name", "last part of the trail's origin", json!({"type": "string", "enum": [name]})), path("path", "path of the file; its slashes are not escaped", json!({"type": "string", "minLength": 1, "examples": ["checkpoint", "tile/0/000.p/1", "tile/entries/000.p/1"]}))], tile),
            "/health/live": open("live", "Whether the process answers", json_answer("it does", status.clone()), json!({})),
            "/health/ready": open("ready", "Whether it takes requests", json_answer("it does", status), json!({"503": busy("it is stopping")})),
            "/metrics": get("metrics", "Metrics for Prometheus", vec![], answers(json!({"200": text("application/openmetrics-text", "metrics")}), &[])),
            "/openapi.json": open("describe", "This description", json_answer("it", json!({"type": "object"})), json!({})),
        },
        "components": {
            "schemas": schemas(catalogue),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "an API key"}},
        },
    });
    let at = query("at", "as it stood at this time", json!({"type": "string", "pattern": TIME}));
    let thing = json!({"type": "object", "required": ["register", "as_of", "thing", "access", "tree_size"], "properties": {
        "register": {"type": "string"}, "as_of": {"type": "string"}, "access": index(), "tree_size": index(),
        "thing": {"type": "object", "description": "docs/registers.md"},
    }});
    let source = json!({"type": "object", "required": ["source", "state"], "properties": {
        "source": {"type": "string"}, "state": {"type": "string", "enum": ["seen", "quiet", "never_seen", "out_of_use"]},
    }});
    let every = json!({"type": "object", "required": ["sources", "tree_size"], "properties": {
        "sources": {"type": "array", "items": source.clone()}, "tree_size": index(),
    }});
    let bad = [("400", "a parameter is not in its form")];
    let (kept, replay) = quarantine();
    let (all_grants, revoke_grant) = grants();
    described["paths"]["/v1/cases/{id}/note"] = case_step("note", "Note what was found out");
    described["paths"]["/v1/cases/{id}/close"] = case_step("close", "Close a case");
    let waiting = json!({"type": "object", "required": ["changes", "tree_size"], "properties": {
        "changes": {"type": "array", "items": proposal()}, "tree_size": index(),
    }});
    described["paths"]["/v1/changes"] = get(
        "listChanges",
        "Changes that wait for a second person",
        Vec::new(),
        answers(json!({"200": json_answer("what waits, the oldest first", waiting)}), &[]),
    );
    described["paths"]["/v1/grants"] = all_grants;
    described["paths"]["/v1/grants/{id}/revoke"] = revoke_grant;
    described["paths"]["/v1/add"] = by_hand(sources);
    described["paths"]["/v1/journal/mirrored"] = mirrored();
    described["paths"]["/v1/quarantine"] = kept;
    described["paths"]["/v1/quarantine/{entry}/replay"] = replay;
    described["paths"]["/v1/sources"] = get(
        "getSources",
        "What is known of every source",
        why(),
        answers(json!({"200": json_answer("sources", every)}), &bad),
    );
    let counted = json!({"type": "object", "required": ["cycles", "access", "tree_size"], "properties": {
        "cycles": {"type": "array", "items": {"type": "object"}}, "access": index(), "tree_size": index(),
    }});
    described["paths"]["/v1/completeness"] = get(
        "getCompleteness",
        "How much of each life cycle stands open",
        why(),
        answers(json!({"200": json_answer("life cycles", counted)}), &bad),
    );
    let open = json!({"type": "object", "required": ["cycle", "open", "next", "access", "tree_size"], "properties": {
        "cycle": {"type": "string"}, "open": {"type": "array", "items": {"type": "object"}},
        "next": {"type": ["string", "null"]}, "access": index(), "tree_size": index(),
    }});
    let mut cycle = one(
        "getOpenOfCycle",
        "What stands open of a life cycle, the oldest first",
        path("cycle", "name of the life cycle", plain_text(64)),
        json_answer("what stands open", open),
    );
    if let Some(parameters) = cycle["get"]["parameters"].as_array_mut() {
        parameters.push(query("limit", "lines, at most", json!({"type": "integer", "minimum": 1, "maximum": 200})));
        parameters.push(query("cursor", "the next page, as the page before gave it", plain_text(512)));
    }
    described["paths"]["/v1/completeness/{cycle}"] = cycle;
    described["paths"]["/v1/sources/{name}"] = one(
        "getSource",
        "What is known of one source",
        path("name", "as in the configuration", plain_text(64)),
        json_answer("it", source),
    );
    let asked = json!({"type": "object", "required": ["as_of", "consents", "access", "tree_size"], "properties": {
        "as_of": {"type": "string"}, "access": index(), "tree_size": index(),
        "consents": {"type": "object", "description": "by purpose: docs/registers.md"},
    }});
    let mut consents =
        one("getConsents", "What a customer consented to, by purpose", id("id"), json_answer("states", asked));
    if let Some(parameters) = consents["get"]["parameters"].as_array_mut() {
        parameters.push(at.clone());
    }
    described["paths"]["/v1/customers/{id}/consents"] = consents;
    let counted = json!({"type": "object", "required": ["template_id", "all", "by_version", "access", "tree_size"]});
    described["paths"]["/v1/templates/{id}/statistics"] = one(
        "getTemplateStatistics",
        "How often a template was used and what came of it, by version",
        id("id"),
        json_answer("counts and rates", counted),
    );
    let thing_id = path("id", "as the records have it", plain_text(THING_ID_MAX));
    for (step, summary) in
        [("acknowledge", "Say that somebody has an alert in hand"), ("resolve", "Say that an alert is over")]
    {
        described["paths"][format!("/v1/alerts/{{id}}/{step}")] = alert_step(step, summary);
    }
    for shape in SHAPES {
        let mut one = one(
            &format!("get_{}", shape.name),
            &format!("One {} whole, from its events", shape.name),
            thing_id.clone(),
            json_answer("it", thing.clone()),
        );
        if let Some(parameters) = one["get"]["parameters"].as_array_mut() {
            parameters.push(at.clone());
        }
        described["paths"][format!("/v1/{}/{{id}}", shape.path)] = one;
        if shape.is_listed() {
            described["paths"][format!("/v1/{}", shape.path)] = things(shape);
        }
    }
    described
}
