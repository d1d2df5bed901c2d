//! A kind: one version of one schema, compiled to tables.
//!
//! Longer than most files: the table types and the compiler that fills them are read together.
//!
//! The subset of JSON Schema is that of `docs/formats/kinds.md`; any other keyword refuses the kind at start.

use serde_json::{Map, Value};

use crate::class::ClassId;
use crate::error::SchemaError;
use crate::identifier::IdentifierType;

/// JSON types as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Types(pub u8);

impl Types {
    /// `string`
    pub const STRING: u8 = 1;
    /// `integer`
    pub const INTEGER: u8 = 2;
    /// `number`
    pub const NUMBER: u8 = 4;
    /// `boolean`
    pub const BOOLEAN: u8 = 8;
    /// `object`
    pub const OBJECT: u8 = 16;
    /// `array`
    pub const ARRAY: u8 = 32;
    /// `null`
    pub const NULL: u8 = 64;

    /// Whether any of these bits is set.
    pub fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    /// The types in words, for a refusal.
    pub fn words(self) -> String {
        let names = ["a string", "an integer", "a number", "true or false", "an object", "an array", "null"];
        let set: Vec<&str> =
            names.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| *name).collect();
        set.join(" or ")
    }
}

/// What a string means, beyond its type: how it is normalised and what it is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Free text: searched for every secret and identifier.
    #[default]
    Text,
    /// An opaque id: searched for tokens with a known prefix only, since ids look random.
    Id,
    /// A word of a closed or small set.
    Token,
    /// An RFC 3339 time, kept as UTC with milliseconds.
    Time,
    /// A person's address, number or name: kept as given.
    Contact,
    /// `debug info notice warning error critical`, with `low medium high` mapped.
    Severity,
    /// A host; anything after it (path, query) is cut.
    Host,
    /// A digest in hexadecimal.
    Digest,
}

/// Which body a field goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldClass {
    /// What the business did.
    Fact,
    /// What is about the data subject.
    Personal,
}

/// A field: a node that has a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldMark {
    /// Number in the body, never reused.
    pub number: u16,
    /// Which body.
    pub class: FieldClass,
    /// Whether and how it names the data subject.
    pub names_subject: Option<IdentifierType>,
    /// Whether only Candor may set it.
    pub set_by_candor: bool,
}

/// What a pattern is compiled to.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// `^[set]{low,high}$`: a table, much faster than an automaton.
    Set {
        /// One bool for each byte.
        set: Box<[bool; 256]>,
    },
    /// Any other anchored pattern.
    Regex(regex::Regex),
}

/// One property of an object.
#[derive(Debug, Clone)]
pub struct Property {
    /// Name.
    pub name: String,
    /// Whether it must be there.
    pub required: bool,
    /// Its schema.
    pub node: Node,
}

/// One schema, compiled.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Allowed types.
    pub types: Types,
    /// Allowed values as canonical JSON text; empty = all.
    pub values: Vec<String>,
    /// Smallest and largest number.
    pub bounds: (Option<f64>, Option<f64>),
    /// Characters or items, at least and at most.
    pub length: (usize, Option<usize>),
    /// Pattern of a string.
    pub pattern: Option<Pattern>,
    /// Properties, sorted by length and name.
    pub properties: Vec<Property>,
    /// First property of each name length; one more at the end.
    by_length: Vec<u16>,
    /// Whether names beyond the properties are allowed (a flat map of scalars).
    pub is_map: bool,
    /// Canonical bytes of the value, at most.
    pub bytes_max: Option<usize>,
    /// Schema of the items of an array.
    pub items: Option<Box<Node>>,
    /// What a string means.
    pub form: Form,
    /// The field, if this node is one.
    pub field: Option<FieldMark>,
}

impl Node {
    /// The schema of a value in a flat map.
    pub fn scalar(form: Form) -> Node {
        let types = Types(Types::STRING | Types::INTEGER | Types::NUMBER | Types::BOOLEAN | Types::NULL);
        Node { types, form, ..Node::default() }
    }

    /// Position of the property of this name.
    pub fn property(&self, name: &[u8]) -> Option<usize> {
        let low = usize::from(*self.by_length.get(name.len())?);
        let high = usize::from(*self.by_length.get(name.len() + 1)?);
        (low..high).find(|at| self.properties[*at].name.as_bytes() == name)
    }
}

/// Who may make a record of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// A source, through intake.
    Source,
    /// A person signed in to Candor.
    Person,
    /// Candor itself.
    Candor,
}

impl Authority {
    /// The name, as in schemas and in the fact `/authority`.
    pub fn name(self) -> &'static str {
        match self {
            Authority::Source => "source",
            Authority::Person => "person",
            Authority::Candor => "candor",
        }
    }
}

/// One version of one kind.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Name, `[A-Z0-9_]{1,64}`.
    pub name: String,
    /// Version, from 1.
    pub version: u16,
    /// Class of its records.
    pub class: ClassId,
    /// The class instead, if any of these top-level properties is given.
    pub class_with: Option<(ClassId, Vec<u16>)>,
    /// The fields that name the subject.
    pub subject_fields: Vec<(u16, IdentifierType)>,
    /// Document 2's `/recipient`, `/recipient_hashes` and `/recipient_count`, where the kind has them.
    pub recipient_fields: Option<[u16; 3]>,
    /// Who may make one.
    pub authorities: Vec<Authority>,
    /// The compiled schema.
    pub root: Node,
    /// The exact bytes of the schema, as KIND_DEFINED records them.
    pub schema: String,
    /// JSON Pointer of each field number.
    pub pointers: Vec<(u16, String)>,
    /// Form of each field number.
    pub forms: Vec<(u16, Form)>,
}

/// Fields in a kind, at most: a body has 64.
const PROPERTIES_MAX: usize = 64;
const KEYWORDS: [&str; 13] = [
    "type",
    "enum",
    "const",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "required",
    "properties",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
];
const ANNOTATIONS: [&str; 13] = [
    "x-kind",
    "x-version",
    "x-class",
    "x-class-with",
    "x-authority",
    "x-number",
    "x-names",
    "x-form",
    "x-set-by",
    "x-bytes-max",
    "x-about",
    "x-map",
    "x-field-class",
];

impl Kind {
    /// Puts a field, as canonical JSON text, back under its name; one of no known number under the number.
    pub fn put(&self, record: &mut Map<String, Value>, number: u16, value: &[u8]) {
        let value = serde_json::from_slice(value).unwrap_or(Value::Null);
        let pointer = self.pointer(number).map_or_else(|| format!("/{number}"), str::to_owned);
        let mut names = pointer.split('/').skip(1).peekable();
        let mut place = record;
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                place.insert(name.to_owned(), value);
                return;
            }
            match place.entry(name.to_owned()).or_insert_with(|| Value::Object(Map::new())) {
                Value::Object(below) => place = below,
                _ => return,
            }
        }
    }

    /// Compiles a schema.
    ///
    /// # Errors
    /// The first thing that is not of the subset, with its JSON Pointer.
    pub fn compile(schema: &str) -> Result<Kind, SchemaError> {
        let value: Value = serde_json::from_str(schema).map_err(|error| SchemaError {
            kind: "?".into(),
            at: "/".into(),
            why: format!("not JSON ({error})"),
        })?;
        let kind = value.get("x-kind").and_then(Value::as_str).unwrap_or("?").to_owned();
        let mut compiler =
            Compiler { kind: kind.clone(), pointers: Vec::new(), subject_fields: Vec::new(), forms: Vec::new() };
        if !proof::entry::is_kind_name(&kind) {
            return compiler.refuse("/x-kind", "must be [A-Z0-9_]{1,64}");
        }
        let version = match value.get("x-version").and_then(Value::as_u64) {
            Some(version @ 1..=65535) => version as u16,
            _ => return compiler.refuse("/x-version", "must be 1 to 65535"),
        };
        let class = compiler.class(&value["x-class"], "/x-class")?;
        let class_with = match value.get("x-class-with") {
            None => None,
            Some(rule) => {
                let any = rule["any"].as_array().map(Vec::as_slice).unwrap_or_default();
                let names: Vec<String> =
                    any.iter().filter_map(|name| name.as_str().map(|name| format!("/{name}/"))).collect();
                Some((compiler.class(&rule["class"], "/x-class-with/class")?, names))
            }
        };
        let authorities = value["x-authority"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
        let authorities: Option<Vec<Authority>> = authorities
            .map(|name| match name.as_str() {
                Some("source") => Some(Authority::Source),
                Some("person") => Some(Authority::Person),
                Some("candor") => Some(Authority::Candor),
                _ => None,
            })
            .collect();
        let Some(authorities) = authorities.filter(|list| !list.is_empty()) else {
            return compiler.refuse("/x-authority", "must be a list of source, person, candor");
        };
        let root = compiler.node(&value, "")?;
        if root.types != Types(Types::OBJECT) || root.is_map {
            return compiler.refuse("/type", "the root must be an object without further properties");
        }
        let mut pointers = compiler.pointers;
        pointers.sort();
        compiler.forms.sort_by_key(|(number, _)| *number);
        if let Some(pair) = pointers.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let why = format!("field number {} is used twice", pair[0].0);
            return Err(SchemaError { kind, at: pair[1].1.clone(), why });
        }
        let number = |pointer: &str| pointers.iter().find(|(_, held)| held == pointer).map(|(number, _)| *number);
        let recipient_fields = match (number("/recipient"), number("/recipient_hashes"), number("/recipient_count")) {
            (Some(recipient), Some(hashes), Some(count)) => Some([recipient, hashes, count]),
            _ => None,
        };
        let class_with = class_with.map(|(class, names)| {
            let below = |pointer: &String| names.iter().any(|name| pointer.starts_with(name.as_str()));
            (class, pointers.iter().filter(|(_, pointer)| below(pointer)).map(|(number, _)| *number).collect())
        });
        let (subject_fields, forms, schema) = (compiler.subject_fields, compiler.forms, schema.to_owned());
        Ok(Kind {
            name: kind,
            version,
            class,
            class_with,
            subject_fields,
            recipient_fields,
            authorities,
            root,
            schema,
            pointers,
            forms,
        })
    }

    /// JSON Pointer of a field number; 0 and 1 are the kind and its version.
    pub fn pointer(&self, number: u16) -> Option<&str> {
        match number {
            0 => Some("/kind"),
            1 => Some("/kind_version"),
            _ => {
                let at = self.pointers.binary_search_by_key(&number, |(held, _)| *held).ok()?;
                Some(self.pointers[at].1.as_str())
            }
        }
    }

    /// What the strings of a field mean; text for a number that the kind does not have.
    pub fn form(&self, number: u16) -> Form {
        self.forms.binary_search_by_key(&number, |(held, _)| *held).map_or(Form::Text, |at| self.forms[at].1)
    }

    /// Field number of a JSON Pointer.
    pub fn number(&self, pointer: &str) -> Option<u16> {
        self.pointers.iter().find(|(_, p)| p == pointer).map(|(number, _)| *number)
    }
}

struct Compiler {
    kind: String,
    pointers: Vec<(u16, String)>,
    subject_fields: Vec<(u16, IdentifierType)>,
    forms: Vec<(u16, Form)>,
}

impl Compiler {
    fn refuse<T>(&self, at: &str, why: &str) -> Result<T, SchemaError> {
        Err(SchemaError { kind: self.kind.clone(), at: at.to_owned(), why: why.to_owned() })
    }

    fn class(&self, value: &Value, at: &str) -> Result<ClassId, SchemaError> {
        match value.as_str().and_then(ClassId::by_name) {
            Some(class) => Ok(class),
            None => self.refuse(at, "no class of this name"),
        }
    }

    fn node(&mut self, schema: &Value, at: &str) -> Result<Node, SchemaError> {
        let Some(map) = schema.as_object() else {
            return self.refuse(at, "a schema must be an object");
        };
        for keyword in map.keys() {
            let known = |list: &[&str]| list.contains(&keyword.as_str());
            if !known(&KEYWORDS) && !known(&ANNOTATIONS) && keyword != "pattern" {
                return self.refuse(&format!("{at}/{keyword}"), "this keyword is not of the subset");
            }
        }
        let mut node = Node { types: self.types(map, at)?, form: self.form(map, at)?, ..Node::default() };
        node.bounds = (map.get("minimum").and_then(Value::as_f64), map.get("maximum").and_then(Value::as_f64));
        let number = |name: &str| map.get(name).and_then(Value::as_u64).map(|n| n as usize);
        node.length = (
            number("minLength").or_else(|| number("minItems")).unwrap_or(0),
            number("maxLength").or_else(|| number("maxItems")),
        );
        node.bytes_max = number("x-bytes-max");
        node.is_map = map.get("x-map").and_then(Value::as_bool).unwrap_or(false);
        if let Some(values) = map.get("enum").and_then(Value::as_array) {
            node.values = values.iter().map(Value::to_string).collect();
        }
        if let Some(value) = map.get("const") {
            node.values = vec![value.to_string()];
        }
        if let Some(pattern) = map.get("pattern") {
            node.pattern = Some(self.pattern(pattern, at)?);
        }
        if let Some(items) = map.get("items") {
            node.items = Some(Box::new(self.node(items, &format!("{at}/items"))?));
        }
        node.field = self.field(map, at)?;
        self.properties(&mut node, map, at)?;
        Ok(node)
    }

    fn types(&self, map: &Map<String, Value>, at: &str) -> Result<Types, SchemaError> {
        let names: Vec<&str> = match map.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let mut types = Types::default();
        for name in names {
            types.0 |= match name {
                "string" => Types::STRING,
                "integer" => Types::INTEGER,
                "number" => Types::NUMBER | Types::INTEGER,
                "boolean" => Types::BOOLEAN,
                "object" => Types::OBJECT,
                "array" => Types::ARRAY,
                "null" => Types::NULL,
                _ => return self.refuse(&format!("{at}/type"), "no such type"),
            };
        }
        if types.0 == 0 {
            return self.refuse(&format!("{at}/type"), "every schema must name its type");
        }
        Ok(types)
    }

    fn form(&self, map: &Map<String, Value>, at: &str) -> Result<Form, SchemaError> {
        match map.get("x-form").map(|form| form.as_str().unwrap_or_default()) {
            None | Some("text") => Ok(Form::Text),
            Some("id") => Ok(Form::Id),
            Some("token") => Ok(Form::Token),
            Some("time") => Ok(Form::Time),
            Some("contact") => Ok(Form::Contact),
            Some("severity") => Ok(Form::Severity),
            Some("host") => Ok(Form::Host),
            Some("digest") => Ok(Form::Digest),
            Some(_) => self.refuse(&format!("{at}/x-form"), "no such form"),
        }
    }

    fn field(&mut self, map: &Map<String, Value>, at: &str) -> Result<Option<FieldMark>, SchemaError> {
        let Some(number) = map.get("x-number") else { return Ok(None) };
        let number = match number.as_u64() {
            Some(number) if number <= u64::from(u16::MAX) => number as u16,
            _ => return self.refuse(&format!("{at}/x-number"), "must be 0 to 65535"),
        };
        let class = match map.get("x-field-class").and_then(Value::as_str) {
            Some("fact") => FieldClass::Fact,
            Some("personal") => FieldClass::Personal,
            _ => return self.refuse(&format!("{at}/x-field-class"), "must be fact or personal"),
        };
        let names_subject = match map.get("x-names").and_then(Value::as_str) {
            None => None,
            Some(name) => match IdentifierType::by_name(name) {
                // An actor's id is opaque and a fact; where the record is about that actor, it names the subject too.
                Some(kind) if class == FieldClass::Personal || kind == IdentifierType::UserId => Some(kind),
                Some(_) => return self.refuse(&format!("{at}/x-names"), "a fact cannot name the subject"),
                None => return self.refuse(&format!("{at}/x-names"), "must be customer_id, address, phone or user_id"),
            },
        };
        let set_by_candor = map.get("x-set-by").and_then(Value::as_str) == Some("candor");
        let pointer = at.replace("/properties/", "/");
        self.pointers.push((number, pointer));
        let form = self.form(map, at)?;
        self.forms.push((number, form));
        self.subject_fields.extend(names_subject.map(|kind| (number, kind)));
        Ok(Some(FieldMark { number, class, names_subject, set_by_candor }))
    }

    fn pattern(&self, pattern: &Value, at: &str) -> Result<Pattern, SchemaError> {
        let at = format!("{at}/pattern");
        let Some(text) = pattern.as_str().filter(|text| text.starts_with('^') && text.ends_with('$')) else {
            return self.refuse(&at, "must be anchored at both ends");
        };
        let inner = &text[1..text.len() - 1];
        if let Some(class) = inner.strip_prefix('[').and_then(|rest| rest.strip_suffix("]+"))
            && let Some(set) = byte_set(class)
        {
            return Ok(Pattern::Set { set });
        }
        match regex::Regex::new(text) {
            Ok(regex) => Ok(Pattern::Regex(regex)),
            Err(_) => self.refuse(&at, "is not a pattern this program can compile"),
        }
    }

    fn properties(&mut self, node: &mut Node, map: &Map<String, Value>, at: &str) -> Result<(), SchemaError> {
        if !node.types.has(Types::OBJECT) {
            return Ok(());
        }
        if !node.is_map && map.get("additionalProperties") != Some(&Value::Bool(false)) {
            return self.refuse(&format!("{at}/additionalProperties"), "must be false (or x-map true)");
        }
        let required: Vec<&str> =
            map.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let empty = Map::new();
        let properties = map.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        if properties.len() > PROPERTIES_MAX {
            return self.refuse(&format!("{at}/properties"), "more than 64 properties");
        }
        for name in &required {
            if !properties.contains_key(*name) {
                return self.refuse(&format!("{at}/required"), "names a property that does not exist");
            }
        }
        for (name, schema) in properties {
            let below = format!("{at}/properties/{name}");
            let child = self.node(schema, &below)?;
            let is_container = child.types == Types(Types::OBJECT) && !child.is_map;
            if node.field.is_none() && child.field.is_none() && !is_container && !at.contains("/items") {
                return self.refuse(&below, "a field needs x-number");
            }
            node.properties.push(Property {
                name: name.clone(),
                required: required.contains(&name.as_str()),
                node: child,
            });
        }
        node.properties.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
        let longest = node.properties.last().map_or(0, |property| property.name.len());
        node.by_length = (0..=longest + 1)
            .map(|length| node.properties.partition_point(|property| property.name.len() < length) as u16)
            .collect();
        Ok(())
    }
}

/// The bytes of a character class of ASCII literals and ranges; `None` if it has anything else.
fn byte_set(class: &str) -> Option<Box<[bool; 256]>> {
    let bytes = class.as_bytes();
    if !class.is_ascii() || bytes.first() == Some(&b'^') || class.contains(['\\', '[', '&']) {
        return None;
    }
    let mut set = Box::new([false; 256]);
    let mut at = 0;
    while at < bytes.len() {
        let low = bytes[at];
        if bytes.get(at + 1) == Some(&b'-') && at + 2 < bytes.len() {
            (low..=bytes[at + 2]).for_each(|byte| set[usize::from(byte)] = true);
            at += 3;
        } else {
            set[usize::from(low)] = true;
            at += 1;
        }
    }
    Some(set)
}
