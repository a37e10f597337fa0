//! `docs/report.schema.json` describes what is really written: each field of each sample, its type, and nothing that isn't
//! there any more. Only the parts of JSON Schema that the document uses are understood here.

use super::model::Report;
use super::samples;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

fn read(name: &str) -> Value {
    let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn schema() -> Value {
    read("report.schema.json")
}

fn json(report: &Report) -> Value {
    serde_json::to_value(report).unwrap()
}

/// Everything that is wrong with `value` under `schema`, and the definitions that were used on the way.
struct Checker<'a> {
    root: &'a Value,
    wrong: Vec<String>,
    used: BTreeSet<String>,
}

impl Checker<'_> {
    fn check(&mut self, schema: &Value, value: &Value, at: &str) {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            // The schema of lock proofs names definitions of the report's.
            let name = reference
                .trim_start_matches("report.schema.json")
                .strip_prefix("#/$defs/")
                .unwrap();
            self.used.insert(name.to_owned());
            let definition = self.root["$defs"][name].clone();
            return self.check(&definition, value, at);
        }
        if let Some(options) = schema.get("anyOf").and_then(Value::as_array) {
            let chosen = options
                .iter()
                .find(|option| (option.get("type") == Some(&"null".into())) == value.is_null());
            return self.check(chosen.unwrap(), value, at);
        }
        self.check_type(schema, value, at);
        if let Some(constants) = schema.get("oneOf").and_then(Value::as_array)
            && !constants.iter().any(|constant| &constant["const"] == value)
        {
            self.wrong.push(format!("{at}: {value} is not one of those described"));
        }
        match value {
            Value::Object(fields) => self.check_fields(schema, fields, at),
            Value::Array(values) => {
                for value in values {
                    self.check(&schema["items"], value, &format!("{at}[]"));
                }
            }
            _ => {}
        }
    }

    fn check_type(&mut self, schema: &Value, value: &Value, at: &str) {
        let allowed: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        let right = allowed.iter().any(|allowed| match *allowed {
            "null" => value.is_null(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => false,
        });
        if !right {
            self.wrong.push(format!("{at}: {value} is not {allowed:?}"));
        }
    }

    fn check_fields(&mut self, schema: &Value, fields: &Map<String, Value>, at: &str) {
        let Some(described) = schema["properties"].as_object() else {
            return self.wrong.push(format!("{at}: no properties are described"));
        };
        for (name, value) in fields {
            let at = format!("{at}.{name}");
            match described.get(name) {
                None => self.wrong.push(format!("{at}: not described")),
                Some(field) => {
                    if field["description"].as_str().is_none_or(str::is_empty) {
                        self.wrong.push(format!("{at}: has no description"));
                    }
                    self.check(field, value, &at);
                }
            }
        }
        let required: BTreeSet<_> =
            schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for name in described.keys() {
            if !required.contains(name.as_str()) || !fields.contains_key(name) {
                self.wrong.push(format!("{at}.{name}: described, but not required or not written"));
            }
        }
    }
}

#[test]
fn the_schema_describes_what_is_written() {
    let schema = schema();
    let mut checker = Checker { root: &schema, wrong: Vec::new(), used: BTreeSet::new() };
    for report in [samples::good(), samples::warning(), samples::failing()] {
        checker.check(&schema, &json(&report), "report");
    }
    assert!(checker.wrong.is_empty(), "{:#?}", checker.wrong);
    let all: BTreeSet<_> = schema["$defs"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(checker.used, all, "a definition that no sample uses");
}

#[test]
fn the_schema_of_lock_proofs_describes_what_is_written() {
    let (root, schema) = (schema(), read("lock-proof.schema.json"));
    let wrong = |proof: &Value| {
        let mut checker = Checker { root: &root, wrong: Vec::new(), used: BTreeSet::new() };
        checker.check(&schema, proof, "proof");
        checker.wrong
    };
    let mut proof = serde_json::to_value(samples::proof()).unwrap();
    assert_eq!(wrong(&proof), [""; 0]);
    assert_eq!(schema["properties"]["schema"]["const"], proof["schema"]);
    proof["surprise"] = 1.into();
    proof["verdict"] = "perhaps".into();
    proof.as_object_mut().unwrap().remove("lock");
    assert_eq!(wrong(&proof).len(), 3, "{:#?}", wrong(&proof));
}

#[test]
fn the_checker_sees_a_field_that_is_not_described() {
    let schema = schema();
    let mut checker = Checker { root: &schema, wrong: Vec::new(), used: BTreeSet::new() };
    let mut report = json(&samples::good());
    report["jobs"][0]["surprise"] = 1.into();
    report["target"]["strength"] = "titanium".into();
    report["tool"].as_object_mut().unwrap().remove("user");
    checker.check(&schema, &report, "report");
    assert_eq!(checker.wrong.len(), 3, "{:#?}", checker.wrong);
}

#[test]
fn the_document_keeps_its_form() {
    // One snapshot of the JSON for each sample: a change of the published form shows in review.
    for (name, report) in [
        ("good", samples::good()),
        ("warning", samples::warning()),
        ("failing", samples::failing()),
    ] {
        let mut shortened = report;
        for job in &mut shortened.jobs {
            job.runs.shown.truncate(2);
        }
        insta::assert_snapshot!(name, serde_json::to_string_pretty(&shortened).unwrap());
    }
}

#[test]
fn a_reader_ignores_fields_that_it_does_not_know() {
    let mut later = json(&samples::good());
    later["added_later"] = true.into();
    later["objects"]["added_later"] = 7.into();
    let read: Report = serde_json::from_value(later).unwrap();
    assert_eq!(read, samples::good());
}
