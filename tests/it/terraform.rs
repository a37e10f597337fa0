//! What is shipped for Terraform hangs together: each file parses, whatever is named is declared, and the policies that it
//! fills in are those that `keephold policy` prints. Whether Amazon takes it, nothing here can tell.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hcl_edit::Decorated;
use hcl_edit::expr::{Expression, ForIntro, FuncCall, Traversal, TraversalOperator};
use hcl_edit::structure::{Attribute, Block, Body, Structure};
use hcl_edit::template::{Element, Template};
use hcl_edit::visit::{Visit, visit_attr, visit_for_intro, visit_func_call, visit_traversal};
use serde_json::Value;

use crate::support::program::{Program, binary};

const ROLES: [&str; 5] = ["writer", "verifier", "pruner", "prober", "replicator"];

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging").join(name)
}

pub(crate) fn module() -> Vec<(String, Body)> {
    let mut files: Vec<_> = fs::read_dir(folder("terraform"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "tf"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let body = text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            (path.file_name().unwrap().to_str().unwrap().to_owned(), body)
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(files.len() >= 5, "{} files", files.len());
    files
}

pub(crate) fn label(block: &Block, at: usize) -> &str {
    block.labels[at].as_str()
}

fn attribute<'a>(body: &'a Body, name: &str) -> Option<&'a Attribute> {
    body.iter().find_map(|part| match part {
        Structure::Attribute(one) if one.has_key(name) => Some(one),
        _ => None,
    })
}

pub(crate) fn blocks(module: &[(String, Body)]) -> impl Iterator<Item = &Block> {
    module.iter().flat_map(|(_, body)| body.iter()).filter_map(|part| match part {
        Structure::Block(block) => Some(block),
        Structure::Attribute(_) => None,
    })
}

/// What a module declares, as expressions name it.
fn declared(module: &[(String, Body)]) -> BTreeSet<String> {
    // What Terraform itself declares, and the provider that whoever uses the module hands over.
    let mut names: BTreeSet<String> =
        ["path.module", "each.key", "each.value", "aws.replica"].map(str::to_owned).into();
    for block in blocks(module) {
        let new = match block.ident.as_str() {
            "variable" => format!("var.{}", label(block, 0)),
            "resource" => format!("{}.{}", label(block, 0), label(block, 1)),
            "data" => format!("data.{}", label(block, 0)),
            "locals" => {
                for part in &block.body {
                    let Structure::Attribute(local) = part else { panic!("a block in locals") };
                    names.insert(format!("local.{}", local.key.as_str()));
                }
                continue;
            }
            "terraform" | "output" => continue,
            other => panic!("a block of an unknown kind: {other}"),
        };
        assert!(names.insert(new.clone()), "{new} is declared twice");
    }
    names
}

/// What expressions name.
#[derive(Default)]
struct Named {
    names: BTreeSet<String>,
    /// Variables of `for` expressions.
    bound: BTreeSet<String>,
    templates: Vec<String>,
}

impl Visit for Named {
    fn visit_attr(&mut self, node: &Attribute) {
        // `type = map(string)` names types.
        if !node.has_key("type") {
            visit_attr(self, node);
        }
    }

    fn visit_expr(&mut self, node: &Expression) {
        if let Expression::Variable(name) = node {
            self.names.insert(name.as_str().to_owned());
        }
        hcl_edit::visit::visit_expr(self, node);
    }

    fn visit_traversal(&mut self, node: &Traversal) {
        let Expression::Variable(root) = &node.expr else { return visit_traversal(self, node) };
        let name = match node.operators.first().map(Decorated::value) {
            Some(TraversalOperator::GetAttr(part)) => {
                format!("{}.{}", root.as_str(), part.as_str())
            }
            _ => root.as_str().to_owned(),
        };
        self.names.insert(name);
        for operator in &node.operators {
            self.visit_traversal_operator(operator);
        }
    }

    fn visit_for_intro(&mut self, node: &ForIntro) {
        self.bound.extend(node.key_var.iter().map(|name| name.as_str().to_owned()));
        self.bound.insert(node.value_var.as_str().to_owned());
        visit_for_intro(self, node);
    }

    fn visit_func_call(&mut self, node: &FuncCall) {
        if node.name.name.as_str() == "templatefile" {
            assert_eq!(node.args.get(1).unwrap().to_string().trim(), "local.names");
            self.templates.push(node.args.get(0).unwrap().to_string().trim().to_owned());
        }
        visit_func_call(self, node);
    }
}

fn named(module: &[(String, Body)]) -> Named {
    let mut named = Named::default();
    for block in blocks(module) {
        // Which providers are asked for is no expression.
        if block.ident.as_str() != "terraform" {
            named.visit_body(&block.body);
        }
    }
    named
}

/// Names that nothing declares.
fn unknown(module: &[(String, Body)]) -> Vec<String> {
    let (declared, named) = (declared(module), named(module));
    let is_bound = |name: &str| named.bound.contains(name.split('.').next().unwrap_or_default());
    let names = named.names.iter();
    names.filter(|name| !declared.contains(*name) && !is_bound(name)).cloned().collect()
}

#[test]
fn whatever_is_named_is_declared_and_each_variable_is_used_and_described() {
    let module = module();
    assert_eq!(unknown(&module), [""; 0]);
    let used = named(&module).names;
    for block in blocks(&module).filter(|block| block.ident.as_str() == "variable") {
        let name = label(block, 0);
        assert!(used.contains(&format!("var.{name}")), "{name} is asked for, and not used");
        for wanted in ["description", "type"] {
            assert!(attribute(&block.body, wanted).is_some(), "{name} has no {wanted}");
        }
    }
}

#[test]
fn a_name_that_nothing_declares_is_seen() {
    let broken: Body =
        "output \"x\" {\n  value = \"${var.none}-${aws_s3_bucket.none.arn}-${local.none}\"\n}\n"
            .parse()
            .unwrap();
    let mut module = module();
    module.push(("broken.tf".to_owned(), broken));
    assert_eq!(unknown(&module), ["aws_s3_bucket.none", "local.none", "var.none"]);
}

/// A template as Terraform's `templatefile` fills it in.
fn filled(file: &Path, values: &[(&str, &str)]) -> Value {
    let template: Template = fs::read_to_string(file).unwrap().parse().unwrap();
    let text: String = template
        .iter()
        .map(|element| match element {
            Element::Literal(text) => text.as_str().to_owned(),
            Element::Interpolation(one) => {
                let Expression::Variable(name) = &one.expr else { panic!("{:?}", one.expr) };
                let found = values.iter().find(|(known, _)| *known == name.as_str());
                found.unwrap_or_else(|| panic!("{}: {name:?}", file.display())).1.to_owned()
            }
            Element::Directive(_) => panic!("{}: a directive", file.display()),
        })
        .collect();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

#[test]
fn the_policies_that_it_fills_in_are_those_that_the_program_prints() {
    let module = module();
    let names = blocks(&module)
        .filter(|block| block.ident.as_str() == "locals")
        .find_map(|block| attribute(&block.body, "names"))
        .unwrap();
    let Expression::Object(names) = &names.value else { panic!("local.names is no object") };
    let given: Vec<String> =
        names.iter().map(|(name, _)| name.as_ident().unwrap().as_str().to_owned()).collect();
    let arn = |role: &str| format!("arn:aws:iam::123456789012:role/keephold-{role}");
    let values: Vec<(&str, String)> = given
        .iter()
        .map(|name| {
            let value = match name.as_str() {
                "bucket" => "acme".to_owned(),
                "prefix" => "db1/".to_owned(),
                "evidence" => "acme-evidence".to_owned(),
                "copy" => "acme-copy".to_owned(),
                "copy_prefix" => "db1/".to_owned(),
                "max_lock_days" => "451".to_owned(),
                role => arn(role),
            };
            (name.as_str(), value)
        })
        .collect();
    let values: Vec<(&str, &str)> = values.iter().map(|(name, v)| (*name, v.as_str())).collect();
    let home = tempfile::tempdir().unwrap();
    let printed = |what: &str| {
        let mut print = Program::new(binary("keephold"), home.path())
            .args(["policy", what, "--vault", "s3://acme/db1", "--max-lock", "451"])
            .args(["--evidence", "acme-evidence", "--copy", "s3://acme-copy/db1"]);
        for role in ROLES {
            print = print.arg(format!("--{role}")).arg(arn(role));
        }
        print.run().ok().json()
    };
    let templates = named(&module).templates;
    let file = |name: &str| format!("\"${{path.module}}/../iam/{name}.json\"");
    let wanted =
        ["bucket-aws", "evidence-aws", "copy-aws", "role-verifier", "role-${each.key}"].map(file);
    assert_eq!(templates, wanted);
    for what in ["bucket", "evidence", "copy"] {
        assert_eq!(filled(&folder(&format!("iam/{what}-aws.json")), &values), printed(what));
    }
    // What the second account's verifier gets of it is about the copy, and nothing else.
    let verifier = printed("verifier");
    let about_the_copy = verifier["Statement"].as_array().unwrap().iter().filter(|statement| {
        let here = statement["Resource"].to_string().contains(":::acme-copy");
        assert_eq!(statement["Sid"].as_str().unwrap().ends_with("TheCopy"), here, "{statement}");
        here
    });
    assert_eq!(about_the_copy.count(), 2);
    let roles = blocks(&module)
        .find(|block| {
            block.ident.as_str() == "resource"
                && label(block, 0) == "aws_iam_role"
                && label(block, 1) == "role"
        })
        .and_then(|block| attribute(&block.body, "for_each"))
        .unwrap();
    let mut tried = 0;
    for role in ROLES {
        assert!(roles.value.to_string().contains(&format!("\"{role}\"")), "{role}");
        assert_eq!(filled(&folder(&format!("iam/role-{role}.json")), &values), printed(role));
        tried += 1;
    }
    assert_eq!(roles.value.to_string().matches('"').count(), 2 * tried, "no role was left out");
}
