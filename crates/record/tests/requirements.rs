//! Every field of the requirement documents has a home, is accepted, and comes back in its register.

use std::collections::BTreeMap;

use proof::time::UnixMillis;
use record::detect::Detector;
use record::kinds::Catalogue;
use record::minimal::{Context, Reader, RecipientMode};
use record::schema::{Authority, FieldClass, Kind};
use record::things::{Event, fold, shape};
use serde_json::{Map, Value, json};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{ROOT}{path}")).expect("it is part of the project")
}

/// Leaves of a key tree: path with `[]` behind lists, and what stands there.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, below)| leaves(below, &format!("{path}/{name}"), found)),
        Value::Array(items) => items.iter().for_each(|item| match item.as_str() {
            Some(name) => found.push((format!("{path}/{}", name.trim_start_matches("name:")), "text".into())),
            None => leaves(item, &format!("{path}[]"), found),
        }),
        other => found.push((path.to_owned(), other.as_str().unwrap_or_default().to_owned())),
    }
}

fn document_1() -> Vec<(String, String)> {
    let tree = serde_json::from_str(&read("testdata/requirements/document-1.json")).expect("JSON");
    let mut found = Vec::new();
    leaves(&tree, "", &mut found);
    assert!(found.len() > 200);
    found
}

/// Rows of docs/requirements.md: what stands in the first column, and the others.
fn rows() -> BTreeMap<String, Vec<String>> {
    let text = read("docs/requirements.md");
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows = text.lines().filter(|line| line.starts_with("| `")).map(cells);
    rows.map(|mut cells| (cells.remove(0).trim_matches('`').to_owned(), cells)).collect()
}

/// Kind and pointer of a row that names a field.
fn carried(row: &[String]) -> Option<(&str, &str)> {
    let (kind, pointer) = row.first()?.split_once(" `/")?;
    let known = kind.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    known.then(|| (kind, pointer.trim_end_matches('`')))
}

fn newest<'c>(catalogue: &'c Catalogue, name: &str) -> &'c Kind {
    catalogue.kind(catalogue.newest(name).unwrap_or_else(|| panic!("no kind {name}")))
}

#[test]
fn every_field_of_the_documents_has_a_home() {
    let catalogue = Catalogue::shipped().expect("shipped");
    let rows = rows();
    for (leaf, _) in document_1() {
        let row = rows.get(&leaf).unwrap_or_else(|| panic!("{leaf} has no row in docs/requirements.md"));
        assert!(row.iter().all(|cell| !cell.is_empty()), "{leaf}");
        let Some((kind, pointer)) = carried(row) else { continue };
        let kind = newest(&catalogue, kind);
        let number = kind.number(&format!("/{pointer}")).or_else(|| {
            // A field of a list's items stands in the list's own number.
            kind.number(&format!("/{}", pointer.split('/').next().unwrap_or_default()))
        });
        let number = number.unwrap_or_else(|| panic!("{leaf}: {} has no /{pointer}", kind.name));
        let class = match class_of(kind, number) {
            FieldClass::Fact => "fact",
            FieldClass::Personal => "personal",
        };
        assert_eq!(row[1], class, "{leaf}");
    }
    let second: Value = serde_json::from_str(&read("testdata/requirements/document-2.json")).expect("JSON");
    for item in
        second.as_object().expect("lists").values().flat_map(|list| list.as_array().cloned().unwrap_or_default())
    {
        let item = item.as_str().unwrap_or_default().to_owned();
        assert!(rows.contains_key(&item), "{item} has no row in docs/requirements.md");
    }
    for name in second["events"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let kind = newest(&catalogue, name);
        let fields = second["mandatory"].as_array().into_iter().chain(second["recommended"].as_array()).flatten();
        for field in fields.filter_map(Value::as_str) {
            assert!(kind.number(&format!("/{field}")).is_some(), "{name} has no /{field}");
        }
    }
}

fn class_of(kind: &Kind, number: u16) -> FieldClass {
    fn find(node: &record::schema::Node, number: u16) -> Option<FieldClass> {
        let own = node.field.filter(|field| field.number == number).map(|field| field.class);
        own.or_else(|| node.properties.iter().find_map(|property| find(&property.node, number)))
    }
    find(&kind.root, number).expect("the number was found by its pointer")
}

/// A value that a schema allows.
fn sample(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    let types = schema["type"].as_array().and_then(|types| types.first()).unwrap_or(&schema["type"]);
    match (types.as_str().unwrap_or_default(), schema["x-form"].as_str().unwrap_or("text")) {
        ("string", "time") => json!("2026-03-02T06:00:00.000Z"),
        ("string", "digest") => json!("a".repeat(64)),
        ("string", _) if schema["pattern"].as_str().is_some_and(|pattern| pattern.starts_with("^P")) => json!("P7Y"),
        ("string", _) if schema["minLength"] == 10 => json!("2026-03-31"),
        ("string", _) => json!("x"),
        ("integer" | "number", _) => json!(1),
        ("boolean", _) => json!(true),
        ("array", _) => json!([sample(&schema["items"])]),
        _ if schema["x-map"] == json!(true) => json!({"a": "b"}),
        _ => object(schema),
    }
}

fn object(schema: &Value) -> Value {
    let mut map = Map::new();
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        if below["x-set-by"] != "candor" {
            map.insert(name.clone(), sample(below));
        }
    }
    map.into()
}

fn whole(kind: &Kind) -> Value {
    let schema: Value = serde_json::from_str(&kind.schema).expect("JSON");
    let mut record = object(&schema);
    record["event_type"] = json!(kind.name);
    record["severity"] = json!("info");
    record
}

fn accept(catalogue: &Catalogue, detector: &Detector, record: &Value) -> Result<String, String> {
    let hash = |_: &str| [0; 16];
    let context = Context {
        source: "local",
        recipients: RecipientMode::Count,
        site: None,
        authority: Authority::Source,
        now: UnixMillis::parse(b"2026-04-01T00:00:00Z").expect("a time"),
        hash: &hash,
    };
    let read = Reader::default().read(record.to_string().as_bytes(), catalogue, detector, &context);
    read.map(|minimal| catalogue.kind(minimal.kind).name.clone()).map_err(|refusal| refusal.to_string())
}

#[test]
fn every_structure_is_accepted_and_comes_back_whole() {
    let (catalogue, detector, rows) = (Catalogue::shipped().expect("shipped"), Detector::new(), rows());
    let registers = [
        ("email_audit_structure", "email"),
        ("template_audit", "template"),
        ("support_ticket_audit", "ticket"),
        ("phone_call_audit", "call"),
        ("order_audit_trail", "order"),
        ("user_access_audit", "session"),
        ("data_audit_trail", "data"),
        ("popia_compliance_audit/data_subject_requests[]", "request"),
        ("popia_compliance_audit/consent_management[]", "consent"),
        ("popia_compliance_audit/data_breach_incidents[]", "breach"),
    ];
    for (root, name) in registers {
        let root = format!("/{root}/");
        let shape = shape(name).expect("a register");
        let mut kinds: Vec<&str> = Vec::new();
        let own: Vec<(String, String)> = document_1().into_iter().filter(|(leaf, _)| leaf.starts_with(&root)).collect();
        assert!(!own.is_empty(), "{root}");
        for (leaf, words) in &own {
            let (kind, pointer) = carried(&rows[leaf]).unwrap_or_else(|| panic!("{leaf} is carried by no field"));
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
            // Every word of an enumeration is accepted as the document writes it.
            for word in words.strip_prefix("one of ").unwrap_or_default().split('|').filter(|word| !word.is_empty()) {
                let mut record = whole(newest(&catalogue, kind));
                let place = record.pointer_mut(&format!("/{pointer}"));
                let place = place.unwrap_or_else(|| panic!("{leaf}: no /{pointer} in a whole {kind}"));
                *place = json!(word);
                if pointer == "event_type" {
                    record = json!({"timestamp": "2026-03-02T06:00:00Z", "event_type": word, shape.id: "x1", "correlation_id": "c", "source_component": "s", "environment": "e", "severity": "info"});
                }
                let kind =
                    accept(&catalogue, &detector, &record).unwrap_or_else(|why| panic!("{leaf} = {word}: {why}"));
                assert!(shape.has(&kind), "{leaf} = {word} became {kind}");
            }
        }
        let mut events = Vec::new();
        for (place, kind) in kinds.iter().enumerate() {
            let record = whole(newest(&catalogue, kind));
            accept(&catalogue, &detector, &record).unwrap_or_else(|why| panic!("a whole {kind}: {why}"));
            let Value::Object(fields) = record else { panic!("a record is an object") };
            let at = UnixMillis::parse(b"2026-03-02T06:00:00Z").expect("a time");
            events.push(Event {
                entry: place as u64,
                at: UnixMillis(at.0 + place as u64),
                kind: (*kind).to_owned(),
                fields,
            });
        }
        let thing = fold(shape, "x1", events, None, UnixMillis::parse(b"2026-04-01T00:00:00Z").expect("a time"))
            .expect("it is");
        for (leaf, _) in &own {
            let pointer = leaf[root.len() - 1..].replace("[]", "/0");
            assert!(thing.pointer(&pointer).is_some(), "{name} comes back without {pointer}: {thing}");
        }
    }
}

#[test]
fn nothing_of_the_documents_but_their_words_is_here() {
    for path in
        ["testdata/requirements/document-1.json", "testdata/requirements/document-2.json", "docs/requirements.md"]
    {
        let text = read(path);
        assert!(!text.contains('@') && !text.contains(".zone"), "{path}");
    }
}
