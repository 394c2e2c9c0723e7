//! The shape of the house, checked from its source: floors, purity of the thinking, sizes, and that
//! every file says what it owns. Each rule is also shown to catch a bad snippet, so that none can rot
//! into a check that cannot fail.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::Visit;

const MOST_LINES: usize = 500;
const MOST_FUNCTION_LINES: usize = 70;

/// Floors from the ground up; the longest prefix that fits counts.
const FLOORS: [(&str, u32); 26] = [
    ("units", 0),
    ("texts", 0),
    ("logic::site", 1),
    ("logic::energy", 2),
    ("logic::safety", 2),
    ("logic::vision", 2),
    ("logic::compute", 2),
    ("logic::observation", 3),
    ("logic::decision", 3),
    ("logic::controller", 4),
    ("config", 5),
    ("io::clock", 6),
    ("io::random", 6),
    ("io::modbus", 7),
    ("io::camera", 7),
    ("io::store", 7),
    ("io::workers", 7),
    ("io::meter", 7),
    ("io::inference", 8),
    ("io::mqtt", 8),
    ("io::web", 8),
    ("app", 9),
    ("cli", 10),
    ("main", 11),
    ("lib", 12),
    ("simulators", 0),
];

/// The fire watch takes scenes and verdicts, which `logic::vision` defines; it never sees pixels
/// (design/decisions.md). The only look from one module of a floor into another.
const NEIGHBOURS: [(&str, &str); 1] = [("logic::safety", "logic::vision")];

const IMPURE: [&str; 15] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "std::io",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "tokio",
    "tracing",
    "rustix",
    "fastrand",
    "chrono::Local",
];

const TRANSCENDENTAL: [&str; 14] = [
    "sin", "cos", "tan", "exp", "exp2", "ln", "log", "log2", "log10", "powf", "powi", "cbrt",
    "atan2", "sin_cos",
];

const BAD_NAMES: [&str; 7] = ["utils", "util", "common", "helpers", "types", "prelude", "misc"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(root().join(folder)).sort_by_file_name();
    // What a build has written is not ours.
    let own = walk.into_iter().filter_entry(|entry| entry.file_name() != "target");
    let files = own.map(|entry| entry.unwrap().into_path());
    files.filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}

/// `src/io/modbus/bus.rs` is `io::modbus::bus`.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap().with_extension("");
    let parts: Vec<String> = inside
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .filter(|p| p != "mod")
        .collect();
    parts.join("::")
}

fn floor(path: &str) -> Option<(&'static str, u32)> {
    let fits = |name: &str| path == name || path.starts_with(&format!("{name}::"));
    FLOORS.into_iter().filter(|(name, _)| fits(name)).max_by_key(|(name, _)| name.len())
}

/// Every path that the code of a file names, test modules left out.
#[derive(Default)]
struct Paths {
    found: Vec<(String, usize)>,
    methods: Vec<(String, usize)>,
    asyncs: Vec<usize>,
    long: Vec<(String, usize)>,
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| a.path().is_ident("cfg") && quote_like(a).contains("test"))
}

fn quote_like(attribute: &syn::Attribute) -> String {
    match &attribute.meta {
        syn::Meta::List(list) => list.tokens.to_string(),
        _ => String::new(),
    }
}

impl Paths {
    fn tree(&mut self, prefix: &str, tree: &syn::UseTree, line: usize) {
        let join =
            |name: String| if prefix.is_empty() { name } else { format!("{prefix}::{name}") };
        match tree {
            syn::UseTree::Path(path) => self.tree(&join(path.ident.to_string()), &path.tree, line),
            syn::UseTree::Name(name) => self.found.push((join(name.ident.to_string()), line)),
            syn::UseTree::Rename(name) => self.found.push((join(name.ident.to_string()), line)),
            syn::UseTree::Glob(_) => self.found.push((prefix.to_owned(), line)),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.tree(prefix, item, line));
            }
        }
    }

    fn function(&mut self, signature: &syn::Signature, span: proc_macro2::Span) {
        let lines = span.end().line + 1 - span.start().line;
        if lines > MOST_FUNCTION_LINES {
            self.long.push((signature.ident.to_string(), lines));
        }
        if signature.asyncness.is_some() {
            self.asyncs.push(span.start().line);
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree("", &item.tree, item.span().start().line);
    }
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if parts.len() > 1 {
            self.found.push((parts.join("::"), path.span().start().line));
        }
        syn::visit::visit_path(self, path);
    }
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.methods.push((call.method.to_string(), call.span().start().line));
        syn::visit::visit_expr_method_call(self, call);
    }
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, item.span());
        syn::visit::visit_item_fn(self, item);
    }
    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, item.span());
        syn::visit::visit_impl_item_fn(self, item);
    }
}

fn paths(text: &str) -> Paths {
    let mut paths = Paths::default();
    paths.visit_file(&syn::parse_file(text).unwrap());
    paths
}

/// `crate::x` and `super::x` as seen from `module`, without the leading `crate`.
fn absolute(module: &str, path: &str) -> Option<String> {
    if let Some(rest) = path.strip_prefix("crate::").or_else(|| path.strip_prefix("wattgate::")) {
        return Some(rest.to_owned());
    }
    let mut parts: Vec<&str> = module.split("::").collect();
    let mut rest = path;
    let mut moved = false;
    while let Some(next) = rest.strip_prefix("super::") {
        parts.pop();
        rest = next;
        moved = true;
    }
    moved.then(|| {
        parts.into_iter().chain([rest]).filter(|p| !p.is_empty()).collect::<Vec<_>>().join("::")
    })
}

fn floor_faults(module: &str, text: &str) -> Vec<String> {
    let Some((own, own_floor)) = floor(module) else {
        let is_room = ["io::", "logic::"].iter().any(|house| module.starts_with(house));
        return is_room.then(|| format!("{module}: stands on no floor")).into_iter().collect();
    };
    let mut faults = Vec::new();
    // The tests of a module in a file of their own, as those that stand in its file.
    if module.ends_with("::tests") {
        return faults;
    }
    for (path, line) in paths(text).found {
        let simulators = path.starts_with("simulators::");
        let hosts = ["app::demo", "app::simulate"].iter().any(|host| module.starts_with(host));
        if simulators && !hosts {
            faults.push(format!(
                "{module}:{line}: only app::demo and app::simulate know the simulators"
            ));
        }
        let Some(target) = absolute(module, &path) else {
            continue;
        };
        let Some((other, other_floor)) = floor(&target) else {
            continue;
        };
        let neighbour = NEIGHBOURS.contains(&(own, other));
        if other != own && other_floor >= own_floor && !neighbour {
            faults
                .push(format!("{module}:{line}: {own} ({own_floor}) uses {other} ({other_floor})"));
        }
    }
    faults
}

fn purity_faults(module: &str, text: &str) -> Vec<String> {
    let seen = paths(text);
    let mut faults = Vec::new();
    for (path, line) in &seen.found {
        if IMPURE.iter().any(|bad| path == bad || path.starts_with(&format!("{bad}::"))) {
            faults.push(format!("{module}:{line}: `{path}` has no place in pure code"));
        }
    }
    for (method, line) in &seen.methods {
        if TRANSCENDENTAL.contains(&method.as_str()) {
            faults.push(format!("{module}:{line}: `{method}` differs between machines: use libm"));
        }
    }
    let waits = seen.asyncs.iter().map(|line| format!("{module}:{line}: async in pure code"));
    faults.extend(waits);
    faults
}

fn size_faults(name: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    let mut faults = Vec::new();
    if lines > MOST_LINES {
        faults.push(format!("{name}: {lines} lines, at most {MOST_LINES}"));
    }
    for (function, lines) in paths(text).long {
        faults.push(format!("{name}: {function} has {lines} lines, at most {MOST_FUNCTION_LINES}"));
    }
    if !text.starts_with("//!") {
        faults.push(format!("{name}: does not open with `//!` and what it owns"));
    }
    faults
}

fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn over(files: Vec<PathBuf>, check: impl Fn(&Path, &str) -> Vec<String>) -> Vec<String> {
    assert!(!files.is_empty(), "no files found: the check would check nothing");
    files.iter().flat_map(|path| check(path, &std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn a_module_uses_only_floors_below_its_own() {
    none(over(rust_files("src"), |path, text| floor_faults(&module(path), text)));
}

#[test]
fn thinking_is_pure() {
    for folder in ["src/logic", "src/units"] {
        none(over(rust_files(folder), |path, text| purity_faults(&module(path), text)));
    }
}

#[test]
fn the_hardware_does_not_know_who_reads_it() {
    let faults = over(rust_files("simulators/src"), |path, text| {
        let foreign = paths(text).found.into_iter().filter(|(p, _)| p.starts_with("wattgate::"));
        foreign.map(|(p, line)| format!("{}:{line}: {p}", path.display())).collect()
    });
    none(faults);
}

#[test]
fn files_and_functions_stay_small_and_say_what_they_own() {
    for folder in ["src", "simulators/src", "tests"] {
        none(over(rust_files(folder), |path, text| size_faults(&path.display().to_string(), text)));
    }
}

#[test]
fn tests_advance_time_or_await_events() {
    let needle = concat!("sle", "ep(");
    let faults = over(rust_files("tests"), |path, text| {
        let found = text.lines().enumerate().filter(|(_, line)| line.contains(needle));
        found.map(|(i, _)| format!("{}:{}: waits blindly", path.display(), i + 1)).collect()
    });
    none(faults);
}

#[test]
fn modules_are_named_after_what_they_own() {
    for folder in ["src", "simulators/src", "tests"] {
        none(over(rust_files(folder), |path, _| {
            let bad = |part: &std::ffi::OsStr| {
                BAD_NAMES.contains(&part.to_string_lossy().trim_end_matches(".rs"))
            };
            let inside = path.strip_prefix(root()).unwrap();
            inside
                .iter()
                .filter(|p| bad(p))
                .map(|_| format!("{}: a name that says nothing", inside.display()))
                .collect()
        }));
    }
}

#[test]
fn every_rule_catches_what_it_is_for() {
    let floors = [
        ("units::time", "use crate::logic::site::Id;"),
        ("logic::energy::ramp", "use crate::logic::safety::fire::Level;"),
        ("io::mqtt::link", "fn f() { crate::io::web::serve(); }"),
        ("config::load", "use {crate::app::demo, std::fs};"),
        ("io::camera::frame", "use super::super::web::WebState;"),
        ("app::control", "use simulators::site;"),
        ("io::cellar", "//! x"),
        ("logic::attic::beam", "//! x"),
    ];
    for (module, text) in floors {
        assert!(!floor_faults(module, text).is_empty(), "{module}: {text}");
    }
    assert!(
        floor_faults("io::web::api", "use crate::logic::site::Id; use super::guard;").is_empty()
    );
    let impure = [
        "use std::time::Instant;",
        "use std::{collections::{BTreeMap, HashMap}};",
        "fn f() { std::fs::read(\"x\").ok(); }",
        "async fn f() {}",
        "fn f(x: f64) -> f64 { x.exp() }",
        "fn f() { tracing::info!(\"x\"); let _ = tokio::spawn(g()); }",
    ];
    for text in impure {
        assert!(!purity_faults("logic::x", text).is_empty(), "{text}");
    }
    let long = format!("//! x\nfn f() {{\n{}}}\n", "let _ = 1;\n".repeat(80));
    assert_eq!(size_faults("x", &long).len(), 1);
    assert_eq!(size_faults("x", &format!("//! x\n{}", "// y\n".repeat(500))).len(), 1);
    assert_eq!(size_faults("x", "fn f() {}").len(), 1);
}
