//! The compiled tables beside a full JSON Schema validator, over every shipped kind: generated records, and the same
//! ones damaged, must be accepted and refused alike.
//!
//! Where ours asks for more on purpose, the reason is known and counted: times must exist, maps must be flat and small,
//! names may not stand twice, forbidden content is refused, and only Candor sets some fields.

use boon::{Compiler, Schemas};
use record::detect::Detector;
use record::error::Refusal;
use record::kinds::Catalogue;
use record::minimal::{Context, Reader};
use record::schema::Authority;
use serde_json::{Map, Value, json};

struct Seed(u64);

impl Seed {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A value that mostly fits the schema.
fn value(schema: &Value, seed: &mut Seed) -> Value {
    let kind = match &schema["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => names[seed.below(names.len() as u64) as usize].as_str().unwrap_or("string").to_owned(),
        _ => "string".into(),
    };
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(values) = schema["enum"].as_array() {
        return values[seed.below(values.len() as u64) as usize].clone();
    }
    match (kind.as_str(), schema["x-form"].as_str()) {
        ("string", Some("time")) => {
            json!(["2026-01-02T03:04:05Z", "2024-02-29T23:59:59.5+02:00"][seed.below(2) as usize])
        }
        ("string", Some("digest")) => json!("0123456789abcdef".repeat(4)),
        ("string", _) if schema["pattern"].as_str().is_some_and(|pattern| pattern.starts_with("^P")) => json!("P7Y"),
        ("string", _) => json!("ab-cd.e_f"[..1 + seed.below(8) as usize]),
        ("integer", _) => json!(schema["minimum"].as_i64().unwrap_or(0) + seed.below(5) as i64),
        ("number", _) => json!(0.5 * seed.below(100) as f64),
        ("boolean", _) => json!(seed.below(2) == 0),
        ("array", _) => (0..seed.below(3)).map(|_| value(&schema["items"], seed)).collect(),
        _ if schema["x-map"] == json!(true) => json!({"a": "b", "n": seed.below(9)}),
        _ => {
            let required: Vec<&str> =
                schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let mut map = Map::new();
            for (name, below) in schema["properties"].as_object().into_iter().flatten() {
                let candor = below["x-set-by"] == json!("candor");
                if !candor && (required.contains(&name.as_str()) || seed.below(2) == 0) {
                    map.insert(name.clone(), value(below, seed));
                }
            }
            Value::Object(map)
        }
    }
}

/// Changes one place of a record.
fn damage(record: &mut Value, seed: &mut Seed) {
    let Some(map) = record.as_object_mut() else { return };
    let names: Vec<String> = map.keys().filter(|name| *name != "event_type").cloned().collect();
    let name = names[seed.below(names.len() as u64) as usize].clone();
    if map[&name].is_object() && seed.below(2) == 0 && map[&name].as_object().is_some_and(|inner| !inner.is_empty()) {
        return damage(map.get_mut(&name).unwrap_or(&mut Value::Null), seed);
    }
    let replacement = match seed.below(9) {
        0 => json!(7),
        1 => json!(-1.5),
        2 => json!("x".repeat(70_000_usize.min(100 + seed.below(2000) as usize))),
        3 => json!(""),
        4 => Value::Null,
        5 => json!(["a", 1]),
        6 => json!({"no_such_name": 1}),
        7 => json!(3.0),
        _ => {
            map.remove(&name);
            return;
        }
    };
    map.insert(name, replacement);
}

#[test]
fn the_tables_agree_with_a_full_validator() {
    let catalogue = Catalogue::shipped().expect("shipped");
    let detector = Detector::new();
    let mut seed = Seed(20_261_122);
    let (mut alike, mut refused, mut stricter) = (0u32, 0u32, 0u32);
    for kind in catalogue.all() {
        let schema: Value = serde_json::from_str(&kind.schema).expect("JSON");
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.add_resource("memory://kind.json", schema.clone()).expect("a resource");
        let compiled = compiler.compile("memory://kind.json", &mut schemas).expect("a schema");
        let authority = kind.authorities[0];
        for round in 0..120 {
            let mut record = value(&schema, &mut seed);
            if round % 3 != 0 {
                damage(&mut record, &mut seed);
            }
            let theirs = schemas.validate(&record, compiled).is_ok();
            let hash = |_: &str| [0; 16];
            let now = proof::time::UnixMillis(1_763_000_000_000);
            let context =
                Context { source: "local", recipients: Default::default(), site: None, authority, now, hash: &hash };
            let ours = Reader::default().read(record.to_string().as_bytes(), &catalogue, &detector, &context);
            match (&ours, theirs) {
                (Ok(_), true) => alike += 1,
                (Err(_), false) => refused += 1,
                (Err(refusal), true) => {
                    let known = match refusal {
                        Refusal::TooLarge { .. }
                        | Refusal::NotJson { .. }
                        | Refusal::Forbidden { .. }
                        | Refusal::SetByCandor { .. } => true,
                        Refusal::OutOfBounds { rule, .. } => {
                            rule.contains("not a time") || rule.contains("bytes, the limit")
                        }
                        Refusal::WrongType { path, .. } => path.0.contains("/*"),
                        _ => false,
                    };
                    assert!(known, "{}: {refusal}: {record}", kind.name);
                    stricter += 1;
                }
                (Ok(_), false) => panic!("{}: ours accepts what the validator refuses: {record}", kind.name),
            }
        }
        assert!(authority != Authority::Person);
    }
    println!(
        "{alike} accepted by both, {refused} refused by both, {stricter} refused by ours alone for a known reason"
    );
    assert!(alike > 1500 && refused > 1500, "{alike} {refused}");
}
