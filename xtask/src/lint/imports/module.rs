//! The files of a package, what each defines, passes on and imports.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use syn::{
    Attribute, File, Item, ItemMod, ItemUse, Path, UseTree, Visibility,
    spanned::Spanned as _,
    visit::{self, Visit},
};

/// Longest chain of names that are passed on.
const MAX_PASSED_ON: usize = 16;

/// A package's files, by their path below `src/`.
pub(super) struct Package {
    /// As it is called in a path of another crate root of the package (`main.rs`).
    crate_name: String,
    modules: BTreeMap<String, Module>,
}

/// An import, from a file that is not the one that defines the name.
pub(super) struct Import<'a> {
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) name: &'a str,
    pub(super) line: usize,
}

/// One file.
#[derive(Default)]
struct Module {
    /// The file of the crate's root that it belongs to.
    root: String,
    /// Its modules' names, from the root.
    path: Vec<String>,
    children: BTreeSet<String>,
    defined: BTreeSet<String>,
    /// Names that it passes on, with where they come from.
    passed_on: BTreeMap<String, Vec<String>>,
    /// Modules all of whose names it passes on.
    passed_on_whole: Vec<Vec<String>>,
    /// Paths that it names, with their lines.
    named: Vec<(Vec<String>, usize)>,
}

impl Package {
    pub(super) fn parse(name: &str, sources: &BTreeMap<&str, &str>) -> Result<Self> {
        let mut modules = BTreeMap::new();
        let product =
            |file: &&str| !file.ends_with("tests.rs") && !file.split('/').any(|part| part == "tests");
        for (file, text) in sources.iter().filter(|(file, _)| product(file)) {
            let parsed: File = syn::parse_file(text).with_context(|| format!("cannot parse {file}"))?;
            let (root, path) = place(file);
            let mut module = Module { root, path, ..Module::default() };
            let mut reader = Reader { module: &mut module };
            reader.visit_file(&parsed);
            modules.insert((*file).to_owned(), module);
        }
        Ok(Self { crate_name: name.replace('-', "_"), modules })
    }

    pub(super) fn imports(&self) -> impl Iterator<Item = Import<'_>> {
        self.modules.iter().flat_map(move |(from, module)| {
            module.named.iter().filter_map(move |(path, line)| {
                let to = self.resolve(from, path, MAX_PASSED_ON)?;
                let name = path.last()?;
                (to != from).then_some(Import { from, to, name, line: *line })
            })
        })
    }

    /// The file that defines what a path means in a file; `None` when that is not in this package.
    fn resolve(&self, from: &str, path: &[String], patience: usize) -> Option<&str> {
        let module = &self.modules[from];
        let (first, mut rest) = path.split_first()?;
        let (root, mut at) = match first.as_str() {
            "crate" => (module.root.as_str(), Vec::new()),
            name if name == self.crate_name && module.root != "lib.rs" => ("lib.rs", Vec::new()),
            "self" => (module.root.as_str(), module.path.clone()),
            "super" => {
                let mut at = module.path.clone();
                at.pop()?;
                while let Some(("super", more)) = rest.split_first().map(|(name, more)| (name.as_str(), more))
                {
                    at.pop()?;
                    rest = more;
                }
                (module.root.as_str(), at)
            }
            name if module.children.contains(name) => {
                rest = path;
                (module.root.as_str(), module.path.clone())
            }
            _ => return None,
        };
        let mut file = self.file(root, &at)?;
        while let Some((name, more)) = rest.split_first() {
            at.push(name.clone());
            match self.file(root, &at) {
                Some(child) => (file, rest) = (child, more),
                None => return self.definition(file, name, more, patience),
            }
        }
        Some(file)
    }

    /// The file that defines a name that is looked up in a file.
    fn definition(&self, file: &str, name: &str, rest: &[String], patience: usize) -> Option<&str> {
        let (file, module) = self.modules.get_key_value(file)?;
        let patience = patience.checked_sub(1)?;
        if module.defined.contains(name) {
            return Some(file);
        }
        if let Some(origin) = module.passed_on.get(name) {
            let path: Vec<String> = origin.iter().chain(rest).cloned().collect();
            // What comes from another package is defined nowhere here.
            return self.resolve(file, &path, patience).or(Some(file));
        }
        let wholes = module.passed_on_whole.iter().filter_map(|whole| self.resolve(file, whole, patience));
        for whole in wholes {
            let known = &self.modules[whole];
            if known.defined.contains(name) || known.passed_on.contains_key(name) {
                return self.definition(whole, name, rest, patience);
            }
        }
        Some(file)
    }

    fn file(&self, root: &str, path: &[String]) -> Option<&str> {
        let is_there = |(_, module): &(&String, &Module)| module.root == root && module.path == path;
        self.modules.iter().find(is_there).map(|(file, _)| file.as_str())
    }
}

/// The root that a file belongs to, and its modules' names.
fn place(file: &str) -> (String, Vec<String>) {
    let names = |file: &str| -> Vec<String> {
        let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').map(str::to_owned).collect()
    };
    if let Some(program) = file.strip_prefix("bin/") {
        return match program.split_once('/') {
            None => (file.to_owned(), Vec::new()),
            Some((folder, "main.rs")) => (format!("bin/{folder}/main.rs"), Vec::new()),
            Some((folder, inner)) => (format!("bin/{folder}/main.rs"), names(inner)),
        };
    }
    match file {
        "lib.rs" | "main.rs" => (file.to_owned(), Vec::new()),
        file => ("lib.rs".to_owned(), names(file)),
    }
}

/// Fills a module with what stands in its file.
struct Reader<'a> {
    module: &'a mut Module,
}

impl Reader<'_> {
    fn import(&mut self, before: &mut Vec<String>, tree: &UseTree, passes_on: bool) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.import(before, &path.tree, passes_on);
                before.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(before, tree, passes_on));
            }
            UseTree::Name(name) => self.import_name(before, &name.ident, &name.ident, passes_on),
            UseTree::Rename(name) => self.import_name(before, &name.ident, &name.rename, passes_on),
            UseTree::Glob(_) if passes_on => self.module.passed_on_whole.push(before.clone()),
            UseTree::Glob(glob) => {
                self.module.named.push((before.clone(), glob.span().start().line));
            }
        }
    }

    fn import_name(&mut self, before: &[String], name: &syn::Ident, known_as: &syn::Ident, passes_on: bool) {
        let mut path = before.to_vec();
        if name != "self" {
            path.push(name.to_string());
        }
        if passes_on {
            self.module.passed_on.insert(known_as.to_string(), path);
        } else {
            self.module.named.push((path, name.span().start().line));
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if attributes(item).iter().any(is_test) {
            return;
        }
        if let Some(name) = name(item) {
            self.module.defined.insert(name);
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.content.is_none() {
            self.module.children.insert(item.ident.to_string());
        }
        visit::visit_item_mod(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let passes_on = !matches!(item.vis, Visibility::Inherited);
        self.import(&mut Vec::new(), &item.tree, passes_on);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.segments.len() > 1 {
            let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.module.named.push((names, path.span().start().line));
        }
        visit::visit_path(self, path);
    }
}

fn is_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("test")
        || attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Mod(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(name.to_string())
}
